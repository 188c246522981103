// The drawing board, and the place to drop a file. It shows what it is told, and tells what was drawn and brushed as layers.
const told = () => { try { return JSON.parse(props.value || "{}"); } catch { return {}; } };
const $ = (name) => element.querySelector(name);
const tell = (changes) => { const next = { ...told(), ...changes }; mine = JSON.stringify(next); props.value = mine; };
let mine = null;

const line = (text) => { $(".said").textContent = text; };
const open = (file) => {
  if (!file) return;
  if (file.size > props.most) { line(`${file.name} has ${Math.round(file.size / 1e6)} MB, expected at most ${Math.round(props.most / 1e6)}`); return; }
  line(`reading ${file.name}`);
  const reader = new FileReader();
  reader.onerror = () => line(`${file.name} cannot be read`);
  reader.onload = () => { tell({ file: { name: file.name, data: reader.result } }); trigger("upload"); };
  reader.readAsDataURL(file);
};
$("input[type=file]").addEventListener("change", (event) => { open(event.target.files[0]); event.target.value = ""; });
element.addEventListener("dragover", (event) => { event.preventDefault(); element.classList.add("over"); });
element.addEventListener("dragleave", () => element.classList.remove("over"));
element.addEventListener("drop", (event) => {
  event.preventDefault(); element.classList.remove("over"); open(event.dataTransfer.files[0]);
});

const canvas = $("canvas");
if (!canvas) {
  const show = () => line(told().said || "");
  watch("value", show);
  show();
} else {
  const layer = () => document.createElement("canvas");
  const base = layer(), drawn = layer(), unknown = layer();
  const sheet = canvas.getContext("2d");
  let ink = props.inks.length ? props.inks[0].colour : "", mode = ink ? "ink" : "unknown", from = null, any = { drawn: false, unknown: false };

  const show = () => {
    sheet.imageSmoothingEnabled = false;
    sheet.clearRect(0, 0, canvas.width, canvas.height);
    for (const one of [base, drawn]) sheet.drawImage(one, 0, 0);
    sheet.globalAlpha = 0.75; sheet.drawImage(unknown, 0, 0); sheet.globalAlpha = 1;
  };
  const size = (width, height) => {
    for (const one of [canvas, base, drawn, unknown]) { one.width = width; one.height = height; }
    canvas.classList.toggle("sharp", Math.max(width, height) < 160);
    canvas.style.aspectRatio = `${width} / ${height}`;
    const range = $(".size input");
    range.max = Math.max(1, Math.round(Math.max(width, height) / 4));
    range.value = Math.max(1, Math.round(Math.max(width, height) / 12));
    any = { drawn: false, unknown: false };
  };
  const blank = () => { const pen = base.getContext("2d"); pen.fillStyle = props.blank; pen.fillRect(0, 0, base.width, base.height); };
  const put = (url, one) => new Promise((done) => {
    if (!url) return done();
    const picture = new Image();
    picture.onload = () => { one.getContext("2d").drawImage(picture, 0, 0); done(); };
    picture.onerror = done;
    picture.src = url;
  });
  const load = async () => {
    if (props.value === mine) return;
    const now = told();
    if (!now.width) return;
    mine = props.value;
    line(now.said || "");
    size(now.width, now.height);
    blank();
    await put(now.base, base); await put(now.drawn, drawn); await put(now.unknown, unknown);
    any = { drawn: !!now.drawn, unknown: !!now.unknown };
    show();
  };
  const dot = (one, x, y, radius, colour) => {
    const pen = one.getContext("2d");
    const reach = Math.ceil(radius);
    for (let v = Math.floor(y) - reach; v <= Math.floor(y) + reach; v++)
      for (let u = Math.floor(x) - reach; u <= Math.floor(x) + reach; u++)
        if ((u + 0.5 - x) ** 2 + (v + 0.5 - y) ** 2 < radius ** 2 || (u === Math.floor(x) && v === Math.floor(y))) {
          if (colour) { pen.fillStyle = colour; pen.fillRect(u, v, 1, 1); } else pen.clearRect(u, v, 1, 1);
        }
  };
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * canvas.width, ((event.clientY - box.top) / box.height) * canvas.height];
  };
  const stroke = (x, y) => {
    const radius = $(".size input").value / 2;
    const [u, v] = from || [x, y];
    const steps = Math.max(1, Math.ceil(Math.hypot(x - u, y - v) / Math.max(0.5, radius / 2)));
    for (let k = 0; k <= steps; k++) {
      const [p, q] = [u + ((x - u) * k) / steps, v + ((y - v) * k) / steps];
      if (mode === "ink") { dot(drawn, p, q, radius, ink); dot(unknown, p, q, radius, ""); any.drawn = true; }
      else if (mode === "unknown") { dot(unknown, p, q, radius, "#ff2fd0"); any.unknown = true; }
      else { dot(drawn, p, q, radius, ""); dot(unknown, p, q, radius, ""); }
    }
    from = [x, y];
    show();
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (!mode) return;
    event.preventDefault(); canvas.setPointerCapture(event.pointerId); from = null; stroke(...at(event));
  });
  canvas.addEventListener("pointermove", (event) => { if (from) stroke(...at(event)); });
  const end = () => {
    if (!from) return;
    from = null;
    tell({ drawn: any.drawn ? drawn.toDataURL("image/png") : "", unknown: any.unknown ? unknown.toDataURL("image/png") : "", said: "" });
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  const choose = (button) => {
    for (const one of element.querySelectorAll(".tools button[data-mode]")) one.classList.toggle("on", one === button);
    mode = button.dataset.mode; ink = button.dataset.ink || ink;
  };
  for (const one of element.querySelectorAll(".tools button[data-mode]")) one.addEventListener("click", () => choose(one));
  const first = element.querySelector(".tools button[data-mode]");
  if (first) choose(first);
  $(".clear").addEventListener("click", () => {
    const [height, width] = props.sheet;
    mine = null;
    props.value = JSON.stringify({ mark: "", width, height, base: "" });
    load();
  });
  watch("value", load);
  load();
}
