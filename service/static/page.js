// The page to try the service in a browser: requests /predict/stream and /explain, and shows the responses.

const form = document.querySelector("#ask");
const { query, model, with: other } = form.elements;
const [problem, announcement, result] = ["#problem", "#announcement", "#result"].map((id) => document.querySelector(id));
const [answers, comparison, heatMap, layers] = ["#answers", "#comparison", "#heat-map", "#layers"].map((id) =>
  document.querySelector(id));

let current = new AbortController();
let example = query.defaultValue; // of the selected model

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const fields = [...new FormData(form)].filter(([, value]) => value !== "");
  history.replaceState(null, "", `?${new URLSearchParams(fields)}`);
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

other.addEventListener("change", ask);

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

/** Return the query as a request body, for the version that is selected in a field. */
function requestBody(field = model) {
  const [name, version] = field.value.split("/");
  return { query: query.value, model: name, version: Number(version) };
}

/** Send the query to each selected version, show the answers as they arrive, and then the explanation of the first. */
async function ask() {
  current.abort();
  current = new AbortController();
  const { signal } = current;
  const fields = other.value ? [model, other] : [model];
  const bodies = fields.map((field) => requestBody(field));
  const started = performance.now();
  let complete = false;
  showProblem("");
  try {
    const responses = await Promise.all(bodies.map((body) => post("/predict/stream", body, signal)));
    startAnswers(bodies[0].query);
    const shown = await Promise.all(responses.map((response, index) => showAnswer(response, fields[index], started)));
    complete = true;
    compare(shown);
    const explanation = await (await post("/explain", { ...bodies[0], layers: true }, signal)).json();
    showExplanation(explanation);
    showLayers(explanation);
  } catch (error) {
    if (!signal.aborted) showProblem(error.message, complete);
  }
}

/** Show each character of an answer as it arrives, and then its figures. Returns its section of the page. */
async function showAnswer(response, field, started) {
  const option = field.selectedOptions[0];
  answers.append(document.querySelector("#answer").content.cloneNode(true));
  const section = answers.lastElementChild;
  section.querySelector("h2").textContent = `Answer of ${option.text}`;
  for await (const { name, data } of events(response)) {
    if (name === "problem") throw new Error(data.detail);
    if (name === "character") section.querySelector(".characters").append(characterItem(data));
    if (name === "done") {
      showPrediction(section, data, trueAnswer(data.query, option.dataset), performance.now() - started);
      return section;
    }
  }
  throw new Error("The stream ended before the answer was complete: try again.");
}

/** Work out the right answer to a query, if the task of the model says how; null if not. */
function trueAnswer(text, { truth, pattern, answerLength }) {
  if (truth !== "sum") return null;
  let match = null;
  try {
    match = new RegExp(`^(?:${pattern})$`).exec(text);
  } catch { /* the pattern is Python's, and may use more than JavaScript has */ }
  if (match === null) return null;
  const numbers = match.slice(1).filter((group) => /^[0-9]+$/.test(group)).map(BigInt);
  return String(numbers.reduce((sum, number) => sum + number, 0n)).slice(-answerLength);
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

/** Show the query as it was typed, above no answer. */
function startAnswers(text) {
  showQuery(text);
  answers.replaceChildren();
  comparison.textContent = announcement.textContent = "";
  heatMap.hidden = layers.hidden = true;
  result.hidden = false;
}

/** Show the query as the model has read it, whether its answer is right, and the figures of the answer. */
function showPrediction(section, { query, answer, confidence, model }, right, milliseconds) {
  showQuery(query);
  const percentage = percent(confidence);
  const by = `${model.name}, version ${model.version}`;
  section.querySelector(".summary").textContent = `Confidence ${percentage}, by ${by}, in ${milliseconds.toFixed(0)} ms.`;
  let sentence = `The model answers ${query} with ${answer || "nothing"}, confidence ${percentage}.`;
  if (right !== null) {
    const verdict = section.querySelector(".verdict");
    verdict.textContent = answer === right ? `Right: the true answer is ${right}.` : `Wrong: the true answer is ${right}.`;
    verdict.hidden = false;
    section.classList.add(answer === right ? "right" : "wrong");
    sentence += ` ${verdict.textContent}`;
  }
  announcement.textContent += ` ${sentence}`;
  result.firstElementChild.scrollIntoView({ block: "nearest" });
}

/** Mark where the answers of two versions differ. */
function compare([first, second]) {
  if (!second) return;
  const tiles = [first, second].map((section) => [...section.querySelectorAll(".character > .tile")]);
  const places = [...Array(Math.max(...tiles.map((each) => each.length))).keys()];
  const different = places.filter((place) => tiles[0][place]?.textContent !== tiles[1][place]?.textContent);
  for (const place of different) for (const each of tiles) each[place]?.classList.add("differs");
  const named = different.map((place) => place + 1).join(", ");
  comparison.textContent = different.length ? `The answers differ, at character ${named}.` : "The answers are the same.";
  announcement.textContent += ` ${comparison.textContent}`;
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

/** Show the numbers that the layers hand on, as a strip for each character of the answer. */
function showLayers({ characters, layers: { repeated, states, probabilities } }) {
  layers.hidden = false; // before the strips are drawn: their colours are those of the page
  const beginning = (numbers) => `${numbers.slice(0, 3).map(figure).join(" ")} …`;
  showStrips("#repeated", characters, characters.map(() => repeated), beginning);
  showStrips("#states", characters, states, beginning);
  showStrips("#probabilities", characters, probabilities, (numbers) => figure(Math.max(...numbers)));
}

function showStrips(id, characters, rows, summary) {
  const part = layers.querySelector(id);
  part.hidden = rows[0].length === 0; // no number of the decoder is the same at each character
  if (part.hidden) return;
  const highest = Math.max(...rows.flat().map(Math.abs));
  part.querySelector(".size").textContent = rows[0].length;
  part.querySelector("table").replaceChildren(...characters.map((character, position) => {
    const row = element("tr");
    row.append(headerCell("row", character), element("td", "strip"), element("td", "", summary(rows[position])));
    row.querySelector(".strip").append(strip(rows[position], highest));
    return row;
  }));
}

function figure(number) {
  return number.toFixed(2).replace("-", "−");
}

/** Draw numbers as bars of one pixel, whose colour is their sign and their share of the highest. */
function strip(numbers, highest) {
  const canvas = element("canvas");
  canvas.role = "img";
  canvas.ariaLabel = `${numbers.length} numbers from ${Math.min(...numbers)} to ${Math.max(...numbers)}`;
  [canvas.width, canvas.height] = [numbers.length, 1];
  const [context, style] = [canvas.getContext("2d"), getComputedStyle(layers)];
  numbers.forEach((number, position) => {
    context.globalAlpha = Math.abs(number) / highest;
    context.fillStyle = style.getPropertyValue(number < 0 ? "--problem" : "--accent");
    context.fillRect(position, 0, 1, 1);
  });
  return canvas;
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
  showCommand();
}

/** Select the version that the address names. Returns a sentence if it is not served. */
function select(field, named) {
  if (named === null) return "";
  if ([...field.options].some(({ value }) => value === named)) field.value = named;
  return field.value === named ? "" : `No model ${named} is served: ${field.selectedOptions[0].text} is selected. `;
}

const parameters = new URLSearchParams(location.search);
const unknown = select(model, parameters.get("model")) + select(other, parameters.get("with"));
query.value = parameters.get("query") ?? model.selectedOptions[0].dataset.example;
document.querySelector("#copy").hidden = false;
showModel();
ask();
document.querySelector("#unknown").textContent = unknown;
