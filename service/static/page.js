// The page to try the service on: asks /predict/stream and /explain, and shows what they say.

const form = document.querySelector("#ask");
const { query, model } = form.elements;
const [problem, told, result] = ["#problem", "#told", "#result"].map((id) => document.querySelector(id));
const [characters, sumUp, matters] = ["#characters", "#sum-up", "#matters"].map((id) => document.querySelector(id));

let running = new AbortController();

form.addEventListener("submit", (event) => {
  event.preventDefault();
  history.replaceState(null, "", `?${new URLSearchParams(new FormData(form))}`);
  ask();
});

query.addEventListener("input", showCommand);
query.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  running.abort();
  query.value = "";
  refuse("");
  showCommand();
});

model.addEventListener("change", () => {
  showModel();
  if (!result.hidden) ask();
});

document.querySelector("#copy").addEventListener("click", async () => {
  const command = document.querySelector("#curl");
  let said = "Copied.";
  try {
    await navigator.clipboard.writeText(command.textContent);
  } catch { // not over plain HTTP from elsewhere
    getSelection().selectAllChildren(command);
    said = "Selected: copy it by your keyboard.";
  }
  document.querySelector("#copied").textContent = said;
});

/** What the form asks, as a body of the service. */
function body() {
  const [name, version] = model.value.split("/");
  return { query: query.value, model: name, version: Number(version) };
}

/** Ask the network, show each character as it comes, and then what mattered to it. */
async function ask() {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const asked = body();
  const begun = performance.now();
  let whole = false;
  refuse("");
  try {
    const response = await post("/predict/stream", asked, signal);
    begin(asked.query);
    for await (const { name, content } of events(response)) {
      if (name === "problem") throw new Error(content.detail);
      if (name === "character") characters.append(character(content));
      if (name === "done") finish(content, performance.now() - begun);
      whole = name === "done";
    }
    if (!whole) throw new Error("The answer was cut short: ask again.");
    explain(await (await post("/explain", asked, signal)).json());
  } catch (error) {
    if (!signal.aborted) refuse(error.message, whole);
  }
}

/** The response; an error with the problem's sentence where it is none. */
async function post(path, content, signal) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(content),
      signal,
    });
  } catch {
    throw new Error("The service cannot be reached.");
  }
  if (response.ok) return response;
  const { errors, detail } = await response.json().catch(() => ({})); // a proxy's page is none of ours
  throw new Error(errors?.[0].detail ?? detail ?? `The service answers with status ${response.status}.`);
}

/** Each server-sent event of the response, as it comes. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const whole = (text + value).split("\n\n");
    text = whole.pop();
    for (const event of whole) {
      const [, name, content] = event.match(/^event: (.*)\ndata: (.*)$/);
      yield { name, content: JSON.parse(content) };
    }
  }
}

/** Show the problem beside the field, and no answer that is not whole; or that there is none. */
function refuse(sentence, whole = false) {
  problem.textContent = sentence;
  query.setAttribute("aria-invalid", sentence !== "");
  if (sentence && !whole) result.hidden = true;
}

function begin(text) {
  const asked = result.querySelector(".asked");
  const read = [...text.replaceAll(" ", "")];
  asked.setAttribute("aria-label", `Query ${read.join("")}`);
  asked.replaceChildren(...read.map((each) => element("span", "tile", each)));
  characters.replaceChildren();
  sumUp.textContent = told.textContent = "";
  matters.hidden = true;
  result.hidden = false;
}

function finish({ query, answer, confidence, model }, milliseconds) {
  const by = `${model.name}, version ${model.version}`;
  sumUp.textContent = `Confidence ${percent(confidence)}, by ${by}, in ${milliseconds.toFixed(0)} ms.`;
  told.textContent = `To ${query} the network answers ${answer || "nothing"}, with confidence ${percent(confidence)}.`;
  result.firstElementChild.scrollIntoView({ block: "nearest" });
}

/** One character of the answer, with its probability and its runners-up. */
function character({ character, probability, runners_up }) {
  const item = document.querySelector("#character").content.cloneNode(true);
  spell(item.querySelector(".tile"), character);
  fill(item.querySelector(".likely"), probability);
  for (const other of runners_up) {
    const runnerUp = document.querySelector("#runner-up").content.cloneNode(true);
    spell(runnerUp.querySelector("b"), other.character);
    fill(runnerUp.querySelector("li"), other.probability);
    item.querySelector(".runners-up").append(runnerUp);
  }
  return item;
}

function fill(shown, probability) {
  shown.style.setProperty("--share", probability);
  shown.querySelector(".probability").textContent = percent(probability);
}

/** A space is the end of an answer. */
function spell(shown, character) {
  shown.textContent = character === " " ? "end" : character;
  shown.classList.toggle("end", character === " ");
}

/** The table of what mattered: a column for each character of the query, a row for each of the answer. */
function explain({ hidden, characters, matrix }) {
  const head = element("tr");
  head.append(element("td"), ...hidden.map((each) => header("col", each)));
  const rows = characters.map((each, place) => {
    const row = element("tr");
    row.append(header("row", each), ...matrix.map((falls) => cell(falls[place])));
    return row;
  });
  matters.tHead.replaceChildren(head);
  matters.tBodies[0].replaceChildren(...rows);
  matters.hidden = false;
}

function header(scope, character) {
  const made = element("th");
  made.scope = scope;
  spell(made, character);
  return made;
}

function cell(fall) {
  const rounded = Math.round(100 * fall) / 100;
  const made = element("td", rounded < 0 ? "rises" : "falls", Math.abs(rounded).toFixed(2));
  if (rounded < 0) made.prepend("−");
  made.style.setProperty("--share", Math.abs(rounded));
  return made;
}

function element(name, className = "", text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

/** Never rounded to certain or impossible. */
function percent(probability) {
  if (probability > 0.9999) return ">99.99%";
  if (probability < 0.0001) return "<0.01%";
  return `${(100 * probability).toFixed(2)}%`;
}

/** The line of curl that asks the same, as a shell reads it. */
function showCommand() {
  const json = JSON.stringify(body()).replaceAll("'", "'\\''");
  const command = `curl -s ${location.origin}/predict -H 'content-type: application/json' -d '${json}'`;
  document.querySelector("#curl").textContent = command;
  document.querySelector("#copied").textContent = "";
}

function showModel() {
  document.querySelector("#largest").textContent = model.selectedOptions[0].dataset.largest;
  for (const each of document.querySelectorAll(".model")) each.hidden = each.dataset.model !== model.value;
  showCommand();
}

const wanted = new URLSearchParams(location.search);
if ([...model.options].some(({ value }) => value === wanted.get("model"))) model.value = wanted.get("model");
if (wanted.has("query")) query.value = wanted.get("query");
document.querySelector("#copy").hidden = false;
showModel();
if (wanted.has("query")) ask();
