// Drawing: many changes cost one, done before the next frame.
let draw;
let asked = false;

export function drawWith(act) { draw = act; }

export function update() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    draw();
  });
}
