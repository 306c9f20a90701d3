// The emulator: its events, its commands, and what views ask for.

async function answered(response) {
  if (!response.ok) throw new Error(`The emulator answers ${response.status}.`);
  return response.json();
}

async function asked(promise) {
  let response;
  try {
    response = await promise;
  } catch {
    throw new Error("The emulator does not answer.");
  }
  const answer = await answered(response);
  if (answer.error) throw new Error(answer.error);
  return answer;
}

// Carries out a command of the control interface; fails with its words.
export async function command(name, fields = {}) {
  const answer = await asked(fetch("command", {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ command: name, ...fields }),
  }));
  return answer.result;
}

// Assigns a package: its bytes and what is told of it.
export async function assign(file, about) {
  return asked(fetch(`package?${new URLSearchParams(about)}`, { method: "POST", body: file }));
}

export async function series(device, key) {
  return asked(fetch(`series?${new URLSearchParams({ device, key })}`));
}

export async function request(id) {
  return asked(fetch(`request?id=${id}`));
}

// Calls `changed` with every event, `state` with "live", "reconnecting" or "ended".
export function listen(changed, state) {
  const source = new EventSource("events");
  source.onopen = () => state("live");
  source.onerror = () => state(source.readyState === EventSource.CLOSED ? "ended" : "reconnecting");
  source.onmessage = event => changed(JSON.parse(event.data));
}
