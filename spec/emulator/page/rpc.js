// Requests to the device with what became of them, and the device's own requests with their answers.
import { button, field, form, h, rows, select, setText, table } from "./dom.js";
import { model } from "./model.js";
import { command } from "./server.js";
import { clockTime, duration } from "./text.js";

function sendForm(device) {
  return form({ class: "card stack", id: "send-rpc" }, async ({ method, params, kind, timeout }) => {
    JSON.parse(params);
    await command("rpc", {
      token: device().token, method, params, oneway: kind === "oneway", persistent: kind === "persistent",
      timeout: Number(timeout) * 1000,
    });
    return `${method} is sent.`;
  },
  h("h3", {}, "Send a request to the device"),
  field("Method", h("input", { required: true, value: "setTarget", autocomplete: "off" }), "method"),
  field("Kind", select([["twoway", "two-way"], ["oneway", "one-way"], ["persistent", "persistent"]]), "kind"),
  field("Time-out in seconds, at least 5", h("input", { type: "number", min: 5, value: 10 }), "timeout"),
  field("Parameters, JSON", h("textarea", { rows: 2, required: true, spellcheck: "false" }, "21"), "params"),
  h("button", { class: "main" }, "Send"));
}

function outcome({ result, persistent, status, response }) {
  if (persistent) return status === "SUCCESSFUL" ? response : status.toLowerCase();
  if (!result) return "waits for the device";
  const body = result.body === "" ? "" : ` ${result.body}`;
  if (result.status === 504) return `504: no reply in time`;
  if (result.status === 503) return `503: the server gave up`;
  return `${result.status}${body}`;
}

function sentTable() {
  const { element, body } = table("Requests sent from this page", "Time", "Method", "Parameters", "Outcome", "Delay");
  const show = rows(body, request => request.index, request => {
    const [said, delay] = [h("td", { class: "value" }), h("td", {})];
    return {
      element: h("tr", {}, h("td", { class: "time" }, clockTime(request.sent_at * 1000)),
        h("th", { scope: "row" }, request.method), h("td", { class: "value" }, request.params), said, delay),
      update(now) {
        setText(said, outcome(now));
        said.classList.toggle("bad", now.result !== undefined && now.result.status !== 200);
        setText(delay, now.result_at ? duration(now.result_at - now.sent_at) : "");
      },
    };
  });
  return { element, show };
}

function answerForm(device, index) {
  const reply = h("input", { value: '{"ok":true}', "aria-label": "Answer, JSON", spellcheck: "false" });
  return form({ class: "row" }, async () => {
    JSON.parse(reply.value);
    await command("answer_client_rpc", { token: device().token, index, reply: reply.value });
    return "The answer is sent.";
  }, reply, h("button", {}, "Answer"));
}

function askedTable(device) {
  const { element, body } = table("Requests of the device to the server", "Method", "Parameters", "Answer");
  const show = rows(body, request => request.index, request => {
    const answer = h("td", { class: "value" });
    const waiting = answerForm(device, request.index);
    return {
      element: h("tr", {}, h("th", { scope: "row" }, request.method), h("td", { class: "value" }, request.params),
        answer),
      update(now) {
        if (now.waits) answer.replaceChildren(waiting);
        else setText(answer, now.answer ?? "none: the request has ended");
      },
    };
  });
  return { element, show };
}

function policyForm() {
  const kind = select([["none", "nobody: they wait, and can be answered below"],
    ["echo", "an echo, getTime with the time"], ["json", "this JSON:"]]);
  const reply = h("input", {
    "aria-label": "JSON that answers every request", value: '{"ok":true}', spellcheck: "false",
  });
  const showReply = () => { reply.hidden = kind.value !== "json"; };
  kind.addEventListener("change", showReply);
  const change = async () => {
    if (kind.value === "json") JSON.parse(reply.value);
    const answers = { none: {}, echo: { reply: "echo" }, json: { reply: reply.value } };
    await command("on_client_rpc", answers[kind.value]);
    return "The answer to requests of devices is set.";
  };
  const element = h("div", { class: "row" }, field("Requests of devices are answered by", kind), reply,
    button("Set", change));
  let told;
  return {
    element,
    update() {
      const now = model.settings.client_rpc_reply;
      if (now === told && element.dataset.shown) return;
      told = now;
      element.dataset.shown = "true";
      kind.value = now === undefined ? "none" : now === "echo" ? "echo" : "json";
      if (kind.value === "json") reply.value = now;
      showReply();
    },
  };
}

export function rpcView(device) {
  const [sent, asked, policy] = [sentTable(), askedTable(device), policyForm()];
  const noneSent = h("p", { class: "empty" }, "No request has been sent from this page.");
  const noneAsked = h("p", { class: "empty" }, "The device has sent none.");
  return {
    element: h("div", {}, sendForm(device), sent.element, noneSent,
      h("h3", {}, "The device asks the server"), policy.element, asked.element, noneAsked),
    update() {
      const requests = model.rpcs.filter(request => request.device === device().name).reverse();
      sent.show(requests);
      noneSent.hidden = requests.length > 0;
      sent.element.hidden = requests.length === 0;
      asked.show([...device().asked].reverse());
      noneAsked.hidden = device().asked.length > 0;
      asked.element.hidden = device().asked.length === 0;
      policy.update();
    },
  };
}
