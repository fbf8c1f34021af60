// The page to try the service in a browser: requests /predict/stream and /explain, and shows the responses.

const form = document.querySelector("#ask");
const { query, model } = form.elements;
const [problem, announcement, result] = ["#problem", "#announcement", "#result"].map((id) => document.querySelector(id));
const [characters, summary, heatMap] = ["#characters", "#summary", "#heat-map"].map((id) => document.querySelector(id));

let current = new AbortController();
let example = query.defaultValue; // of the selected model

form.addEventListener("submit", (event) => {
  event.preventDefault();
  history.replaceState(null, "", `?${new URLSearchParams(new FormData(form))}`);
  ask();
});

query.addEventListener("input", showCommand);
query.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  current.abort();
  query.value = "";
  showProblem("");
  showCommand();
});

model.addEventListener("change", () => {
  if (query.value === example) query.value = model.selectedOptions[0].dataset.example;
  showModel();
  if (!result.hidden) ask();
});

document.querySelector("#copy").addEventListener("click", async () => {
  const command = document.querySelector("#curl");
  let message = "Copied.";
  try {
    await navigator.clipboard.writeText(command.textContent);
  } catch { // the clipboard requires HTTPS or localhost
    getSelection().selectAllChildren(command);
    message = "Selected: copy it with the keyboard.";
  }
  document.querySelector("#copied").textContent = message;
});

/** Return the form as a request body. */
function requestBody() {
  const [name, version] = model.value.split("/");
  return { query: query.value, model: name, version: Number(version) };
}

/** Send the query, show each character of the answer as it arrives, and then the explanation. */
async function ask() {
  current.abort();
  current = new AbortController();
  const { signal } = current;
  const body = requestBody();
  const started = performance.now();
  let complete = false;
  showProblem("");
  try {
    const response = await post("/predict/stream", body, signal);
    startAnswer(body.query);
    for await (const { name, data } of events(response)) {
      if (name === "problem") throw new Error(data.detail);
      if (name === "character") characters.append(characterItem(data));
      if (name === "done") showPrediction(data, performance.now() - started);
      complete = name === "done";
    }
    if (!complete) throw new Error("The stream ended before the answer was complete: try again.");
    showExplanation(await (await post("/explain", body, signal)).json());
  } catch (error) {
    if (!signal.aborted) showProblem(error.message, complete);
  }
}

/** Send a request. Returns the response; throws an error with the detail of the problem document. */
async function post(path, body, signal) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      signal,
    });
  } catch {
    throw new Error("The service cannot be reached.");
  }
  if (response.ok) return response;
  const { errors, detail } = await response.json().catch(() => ({})); // an error page of a proxy is not JSON
  throw new Error(errors?.[0].detail ?? detail ?? `The service returned status ${response.status}.`);
}

/** Yield each server-sent event of the response, as it arrives. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const complete = (text + value).split("\n\n");
    text = complete.pop();
    for (const event of complete) {
      const [, name, data] = event.match(/^event: (.*)\ndata: (.*)$/);
      yield { name, data: JSON.parse(data) };
    }
  }
}

/** Show the problem beside the field, and hide an incomplete answer. An empty sentence clears the problem. */
function showProblem(sentence, complete = false) {
  problem.textContent = sentence;
  query.setAttribute("aria-invalid", sentence !== "");
  if (sentence && !complete) result.hidden = true;
}

function showQuery(text) {
  const tiles = result.querySelector(".query");
  tiles.setAttribute("aria-label", `Query ${text}`);
  tiles.replaceChildren(...[...text].map((character) => element("span", "tile", character)));
}

/** Show the query as it was typed, above an empty answer. */
function startAnswer(text) {
  showQuery(text);
  characters.replaceChildren();
  summary.textContent = announcement.textContent = "";
  heatMap.hidden = true;
  result.hidden = false;
}

/** Show the query as the model has read it, and the figures of the answer. */
function showPrediction({ query, answer, confidence, model }, milliseconds) {
  showQuery(query);
  const by = `${model.name}, version ${model.version}`;
  const percentage = percent(confidence);
  summary.textContent = `Confidence ${percentage}, by ${by}, in ${milliseconds.toFixed(0)} ms.`;
  announcement.textContent = `The model answers ${query} with ${answer || "nothing"}, confidence ${percentage}.`;
  result.firstElementChild.scrollIntoView({ block: "nearest" });
}

/** Create the list item of a character of the answer, with its probability and its runners-up. */
function characterItem({ character, probability, runners_up }) {
  const item = document.querySelector("#character").content.cloneNode(true);
  setCharacter(item.querySelector(".tile"), character);
  setProbability(item.querySelector(".likely"), probability);
  for (const other of runners_up) {
    const runnerUp = document.querySelector("#runner-up").content.cloneNode(true);
    setCharacter(runnerUp.querySelector("b"), other.character);
    setProbability(runnerUp.querySelector("li"), other.probability);
    item.querySelector(".runners-up").append(runnerUp);
  }
  return item;
}

function setProbability(target, probability) {
  target.style.setProperty("--share", probability);
  target.querySelector(".probability").textContent = percent(probability);
}

/** Show a character; the empty string is the end of an answer. */
function setCharacter(target, character) {
  target.textContent = character || "end";
  target.classList.toggle("end", character === "");
}

/** Show the heat map: a column for each character of the query, a row for each character of the answer. */
function showExplanation({ hidden, characters, matrix }) {
  const head = element("tr");
  head.append(element("td"), ...hidden.map((character) => headerCell("col", character)));
  const rows = characters.map((character, position) => {
    const row = element("tr");
    row.append(headerCell("row", character), ...matrix.map((drops) => cell(drops[position])));
    return row;
  });
  heatMap.tHead.replaceChildren(head);
  heatMap.tBodies[0].replaceChildren(...rows);
  heatMap.hidden = false;
}

function headerCell(scope, character) {
  const created = element("th");
  created.scope = scope;
  setCharacter(created, character);
  return created;
}

function cell(drop) {
  const rounded = Math.round(100 * drop) / 100;
  const created = element("td", rounded < 0 ? "rises" : "falls", Math.abs(rounded).toFixed(2));
  if (rounded < 0) created.prepend("−");
  created.style.setProperty("--share", Math.abs(rounded));
  return created;
}

function element(name, className = "", text = "") {
  const created = document.createElement(name);
  created.className = className;
  created.textContent = text;
  return created;
}

/** Format a percentage that is never rounded to 0 or 100. */
function percent(probability) {
  if (probability > 0.9999) return ">99.99%";
  if (probability < 0.0001) return "<0.01%";
  return `${(100 * probability).toFixed(2)}%`;
}

/** Show the curl command that sends the same query. */
function showCommand() {
  const json = JSON.stringify(requestBody()).replaceAll("'", "'\\''");
  const command = `curl -s ${location.origin}/predict -H 'content-type: application/json' -d '${json}'`;
  document.querySelector("#curl").textContent = command;
  document.querySelector("#copied").textContent = "";
}

function showModel() {
  const { dataset } = model.selectedOptions[0];
  example = dataset.example;
  document.querySelector("#hint").textContent = dataset.hint;
  for (const card of document.querySelectorAll(".model")) card.hidden = card.dataset.model !== model.value;
  showCommand();
}

const parameters = new URLSearchParams(location.search);
if ([...model.options].some(({ value }) => value === parameters.get("model"))) model.value = parameters.get("model");
query.value = parameters.get("query") ?? model.selectedOptions[0].dataset.example;
document.querySelector("#copy").hidden = false;
showModel();
if (parameters.has("query")) ask();
