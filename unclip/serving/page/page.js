"use strict";

const find = (selector, root = document) => root.querySelector(selector);
const findAll = (selector, root = document) => [...root.querySelectorAll(selector)];
const copyOf = (id) => find(`#${id}`).content.cloneNode(true);
const form = find("#controls");
const MOST_SHEETS = 30;
const GO = { paint: "Paint", vary: "Paint variations", interpolate: "Paint the way", trajectory: "Paint" };

// A place for a picture (base64), and where it allows one, for a prompt.
class Slot {
  constructor(id, name) {
    this.root = find(`#${id}`);
    this.root.append(copyOf("slot"));
    this.image = find("img", this.root);
    this.text = find("input[type=text]", this.root);
    this.frame = find(".frame", this.root);
    this.picture = null;
    this.text.setAttribute("aria-label", `${name}: a prompt`);
    find("input[type=file]", this.root).setAttribute("aria-label", `${name}: choose a file`);
    this.text.addEventListener("input", () => this.text.value && this.show(null));
    find("input[type=file]", this.root).addEventListener("change", (event) => {
      if (event.target.files[0]) this.read(event.target.files[0]);
      event.target.value = "";
    });
    for (const kind of ["dragover", "dragleave", "drop"]) {
      this.frame.addEventListener(kind, (event) => {
        event.preventDefault();
        this.frame.classList.toggle("over", kind === "dragover");
        if (kind === "drop" && event.dataTransfer.files[0]) this.read(event.dataTransfer.files[0]);
      });
    }
  }

  read(file) {
    const reader = new FileReader();
    reader.onload = () => this.show(reader.result);
    reader.readAsDataURL(file);
  }

  show(url) {
    this.picture = url && url.slice(url.indexOf(",") + 1);
    this.image.hidden = !url;
    find("span", this.frame).hidden = Boolean(url);
    if (url) {
      this.image.src = url;
      this.text.value = "";
    }
  }

  get end() {
    return this.picture ? { picture: this.picture } : { prompt: this.text.value };
  }

  get title() {
    return this.picture ? "a picture" : this.text.value;
  }
}

const slots = {
  source: new Slot("source", "Picture"), start: new Slot("start", "From"), end: new Slot("end", "To"),
};

function choose(verb) {
  form.dataset.verb = verb;
  for (const button of findAll(".tabs button")) {
    button.setAttribute("aria-pressed", String(button.dataset.verb === verb));
  }
  for (const part of findAll("[data-for]")) {
    part.hidden = !part.dataset.for.split(" ").includes(verb);
  }
  find("#go").textContent = GO[verb];
  showOwnNoise();
}

function ownNoise() {
  return ["vary", "interpolate"].includes(form.dataset.verb) && find("#own_noise").checked;
}

function showOwnNoise() {
  find("#sampling").disabled = ownNoise();
}

function showNumbers() {
  for (const output of findAll("output")) output.value = find(`#${output.htmlFor}`).value;
}

// As the command line: what training never showed, and the nearest captions.
async function showWarning() {
  const prompt = find("#prompt").value;
  const { warning } = await (await fetch(`warning?${new URLSearchParams({ prompt })}`)).json();
  if (prompt !== find("#prompt").value) return; // an answer to what stood there before
  find("#warning").hidden = !warning;
  find("#warning").textContent = warning;
}

function number(id) {
  return Number(find(`#${id}`).value);
}

function wrongNumber() {
  return findAll("input[type=number]", form).find((input) => !input.checkValidity());
}

// As the server says it; what is no number at all, a browser does not tell.
function mistake({ id, value, min, max, step }) {
  const kind = step === "any" ? "number" : "whole number";
  return `${id}: ${value || "what is there"} is not allowed; expected a ${kind} from ${min} to ${max}`;
}

function showError(line) {
  find("#error").textContent = line;
  find("#error").hidden = !line;
}

function request(verb) {
  const how = { seed: number("seed"), guidance: number("guidance"), steps: number("steps") };
  const prompt = find("#prompt").value;
  if (verb === "paint") return { ...how, prompt, num: number("num") };
  if (verb === "trajectory") return { ...how, prompt };
  how.own_noise = ownNoise();
  if (verb === "vary") return { ...how, picture: slots.source.picture || "", num: number("num") };
  return { ...how, start: slots.start.end, end: slots.end.end, frames: number("frames") };
}

function title(verb) {
  if (verb === "vary") return "Variations";
  if (verb === "interpolate") return `${slots.start.title} → ${slots.end.title}`;
  return find("#prompt").value;
}

async function ask(verb, asked) {
  const response = await fetch(`ask/${verb}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(asked),
  });
  const answer = await response.json().catch(() => ({ error: `the server says ${response.status}` }));
  if (!response.ok) throw new Error(answer.error);
  return answer.pictures;
}

function use(act, url) {
  if (act === "vary") {
    slots.source.show(url);
    choose("vary");
  } else {
    slots[act].show(url);
    choose("interpolate");
  }
  form.scrollIntoView({ block: "nearest" });
}

// Who does not see a picture is told its prompt and seed: "vary a red circle, seed 3".
function card(picture, name) {
  const part = copyOf("card");
  const url = `data:image/png;base64,${picture.png}`;
  find("img", part).src = url;
  find("img", part).alt = `${name}, ${picture.caption}`;
  find("figcaption", part).textContent = picture.caption;
  find("a", part).href = url;
  find("a", part).download = `${name} ${picture.caption}`.replace(/[^\p{L}\p{N}]+/gu, "-") + ".png";
  for (const action of findAll(".actions > *", part)) {
    action.setAttribute("aria-label", `${action.textContent} ${name}, ${picture.caption}`);
  }
  for (const button of findAll("[data-act]", part)) {
    button.addEventListener("click", () => use(button.dataset.act, url));
  }
  return part;
}

async function submit(event) {
  event.preventDefault();
  if (find("#go").disabled) return; // Enter comes here too
  const wrong = wrongNumber();
  showError(wrong ? mistake(wrong) : "");
  if (wrong) return wrong.focus();
  const verb = form.dataset.verb, asked = request(verb), name = title(verb);
  const sheet = copyOf("sheet").firstElementChild;
  const how = ownNoise() ? "own noise" : `guidance ${asked.guidance} · ${asked.steps} steps`;
  find("h2", sheet).textContent = name;
  find(".how", sheet).textContent = "painting …";
  const isWay = ["interpolate", "trajectory"].includes(verb);
  sheet.classList.toggle("way", isWay);
  sheet.classList.add("waiting");
  find("#empty")?.remove();
  find("#results").prepend(sheet);
  find("#go").disabled = true;
  find("#status").textContent = `Painting ${name}`;
  const started = performance.now();
  try {
    const pictures = await ask(verb, asked);
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    find(".how", sheet).textContent = `seed ${asked.seed} · ${how} · ${seconds} s`;
    const each = isWay ? `${name}, seed ${asked.seed}` : name;
    find(".pictures", sheet).append(...pictures.map((picture) => card(picture, each)));
    find("#status").textContent = `Painted ${name}: ${pictures.length} pictures`;
    for (const old of findAll(".sheet").slice(MOST_SHEETS)) old.remove();
  } catch (error) {
    sheet.remove();
    find("#status").textContent = "";
    showError(error.message);
  } finally {
    sheet.classList.remove("waiting");
    find("#go").disabled = false;
  }
}

async function start() {
  const facts = await (await fetch("facts")).json();
  find("#notice").textContent = facts.notice;
  find("#num").max = facts.most_pictures;
  for (const id of ["seed", "guidance", "steps"]) {
    find(`#${id}`).max = facts[`most_${id}`];
    find(`#${id}`).value = facts[id];
  }
  find("#prompt").value = facts.prompts[0];
  slots.start.text.value = facts.prompts[0];
  slots.end.text.value = facts.prompts[facts.prompts.length - 1];
  for (const prompt of facts.prompts) {
    const chip = document.createElement("button");
    chip.type = "button";
    chip.textContent = prompt;
    chip.addEventListener("click", () => {
      find("#prompt").value = prompt;
      showWarning();
    });
    find("#prompts").append(chip);
  }
  showNumbers();
  choose("paint");
}

for (const button of findAll(".tabs button")) button.addEventListener("click", () => choose(button.dataset.verb));
form.addEventListener("input", showNumbers);
form.addEventListener("submit", submit);
find("#own_noise").addEventListener("change", showOwnNoise);
find("#prompt").addEventListener("input", showWarning);
find("#prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});
find("#dice").addEventListener("click", () => {
  find("#seed").value = Math.floor(Math.random() * 1e6);
});
start();
