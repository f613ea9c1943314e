"use strict";

// The page asks /v1/models once, and for each score /v1/textnorm (or /v1/score, without contrastive prompts) and, for each
// distinct preprocessing, /v1/preprocess. Text is only ever set as text.

const $ = (id) => document.getElementById(id);

let picture = null; // {name, url: data URL}
let models = [];
let asking = null; // AbortController of what runs
let modelsKey = null; // the key that models were asked with

// element makes an element with a class and children, which are elements or texts.
function element(tag, className, ...children) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  e.append(...children);
  return e;
}

// ask sends a request to this server. A failure is an Error with the server's own words.
async function ask(path, body, signal) {
  const headers = {};
  const key = $("key").value.trim();
  if (key) headers["Authorization"] = "Bearer " + key;
  if (body) headers["Content-Type"] = "application/json";
  const options = { method: body ? "POST" : "GET", headers, signal, credentials: "same-origin" };
  if (body) options.body = JSON.stringify(body);
  let response;
  try {
    response = await fetch(path, options);
  } catch (e) {
    if (e.name === "AbortError") throw e;
    throw new Error("The server does not answer.");
  }
  if (response.ok) return response;
  let message = "The server answered with status " + response.status + ".";
  try {
    message = (await response.json()).error.message;
  } catch { /* not an error of this server */ }
  throw new Error(message);
}

async function loadModels() {
  modelsKey = $("key").value.trim();
  try {
    models = (await (await ask("/v1/models")).json()).data;
    const rewards = models.flatMap((m) => m.rewards);
    $("models").textContent = rewards.length ? rewards.join(", ") : "No rewards are served.";
  } catch (e) {
    models = [];
    $("models").textContent = e.message;
  }
}

// take makes a file the picture that is scored.
function take(file) {
  if (!file) return;
  const reader = new FileReader();
  reader.onload = () => {
    picture = { name: file.name, url: reader.result };
    $("preview").src = picture.url;
    $("preview").hidden = false;
    $("invite").hidden = true;
    $("filename").textContent = file.name;
    complain("");
  };
  reader.onerror = () => complain("The file cannot be read.");
  reader.readAsDataURL(file);
}

function complain(message) {
  $("problem").textContent = message;
  $("problem").hidden = !message;
}

// contrastivePrompts returns the lines, each once, without the prompt itself: what TextNorm makes of them.
function contrastivePrompts(prompt) {
  const lines = $("contrastive").value.split("\n").map((line) => line.trim());
  return [...new Set(lines)].filter((line) => line && line !== prompt);
}

// weights returns the softmax weight of each score after min-max scaling; null where there is none.
function weights(scores, scale) {
  if (scores.some((s) => s === null)) return null;
  const least = Math.min(...scores);
  const range = Math.max(...scores) - least;
  const exps = scores.map((s) => Math.exp(range > 0 ? ((s - least) / range - 1) * scale : 0));
  const sum = exps.reduce((a, b) => a + b, 0);
  return exps.map((e) => e / sum);
}

function digits(v) {
  if (v === null) return "none";
  const size = Math.abs(v);
  return size !== 0 && (size < 0.001 || size >= 1e6) ? v.toExponential(3) : v.toPrecision(5);
}

function percent(v) {
  if (v < 0.00005) return "< 0.01 %";
  return (100 * v).toFixed(v >= 0.9995 || v < 0.0995 ? 2 : 1) + " %";
}

function figureOf(label, value, main) {
  return element("span", main ? "figure main" : "figure", element("span", "quiet", label + " "), element("b", "", value));
}

// rewardCard shows one reward: its raw score, its confidence and a bar for every prompt.
function rewardCard(name, texts, scores, confidence, scale) {
  const head = element("div", "head", element("h3", "", name), figureOf("reward", digits(scores[0])));
  const card = element("article", "card", head);
  if (confidence === undefined) return card;
  head.append(figureOf("confidence", confidence === null ? "none" : percent(confidence), true));
  const parts = weights(scores, scale);
  if (!parts) return card;
  const body = element("tbody");
  texts.forEach((text, i) => {
    const fill = element("div", "fill");
    fill.style.width = (100 * parts[i]).toFixed(2) + "%";
    const track = element("div", "track", fill);
    track.setAttribute("aria-hidden", "true");
    const label = element("th", "", text, track);
    label.scope = "row";
    body.append(element("tr", i === 0 ? "own" : "", label, element("td", "number", digits(scores[i])), element("td", "number", percent(parts[i]))));
  });
  const titles = ["prompt", "reward", "weight"].map((title, i) => {
    const th = element("th", i ? "number" : "", title);
    th.scope = "col";
    return th;
  });
  card.append(element("table", "", element("thead", "", element("tr", "", ...titles)), body));
  return card;
}

function showRewards(answer, texts, scale) {
  const cards = Object.entries(answer.rewards).map(([name, r]) =>
    Array.isArray(r) ? rewardCard(name, texts, r.slice(0, 1)) : rewardCard(name, texts, r.scores[0], r.confidence[0], scale));
  $("rewards").replaceChildren(...cards);
  $("nothing").hidden = cards.length > 0;
  if (answer.errors.length) complain("The picture could not be scored: " + answer.errors[0].message);
}

// showViews shows the picture once for each distinct preprocessing.
async function showViews(signal) {
  const groups = new Map();
  for (const m of models) {
    if (!m.preprocessing) continue;
    const key = m.preprocessing.pipeline + " " + m.preprocessing.size;
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(m);
  }
  const figures = await Promise.all([...groups].map(async ([key, members]) => {
    const blob = await (await ask("/v1/preprocess", { image: picture.url, model: members[0].id }, signal)).blob();
    const img = element("img");
    img.src = URL.createObjectURL(blob);
    img.onload = () => URL.revokeObjectURL(img.src);
    img.alt = "The picture after preprocessing by " + key;
    const rewards = members.flatMap((m) => m.rewards).join(", ");
    return element("figure", "", img, element("figcaption", "quiet", rewards + ": " + key + " x " + members[0].preprocessing.size));
  }));
  $("views").replaceChildren(...figures);
  $("seen").hidden = figures.length === 0;
}

function busy(on) {
  $("go").disabled = on;
  $("go").textContent = on ? "Scoring" : "Score";
  $("results").setAttribute("aria-busy", String(on));
}

async function score() {
  complain("");
  const prompt = $("prompt").value.trim();
  const scale = Number($("scale").value);
  if (!picture) return complain("Choose a picture first.");
  if (!prompt) return complain("Type a prompt first.");
  if (!(scale > 0)) return complain("The softmax scale must be more than 0.");
  if (asking) asking.abort();
  const mine = asking = new AbortController();
  const contrastive = contrastivePrompts(prompt);
  busy(true);
  $("rewards").replaceChildren();
  $("seen").hidden = true;
  try {
    if (!models.length || modelsKey !== $("key").value.trim()) await loadModels();
    const answer = await ask(contrastive.length ? "/v1/textnorm" : "/v1/score", contrastive.length
      ? { images: [picture.url], prompt, contrastive, scale }
      : { images: [picture.url], texts: [prompt] }, mine.signal);
    showRewards(await answer.json(), [prompt, ...contrastive], scale);
    await showViews(mine.signal);
  } catch (e) {
    if (e.name !== "AbortError" && $("problem").hidden) complain(e.message);
  } finally {
    if (asking === mine) {
      asking = null;
      busy(false);
    }
  }
}

$("form").addEventListener("submit", (e) => {
  e.preventDefault();
  score();
});
$("file").addEventListener("change", () => take($("file").files[0]));
$("key").addEventListener("change", loadModels);
document.addEventListener("paste", (e) => take([...e.clipboardData.files].find((f) => f.type.startsWith("image/"))));
document.addEventListener("dragover", (e) => {
  e.preventDefault();
  $("drop").classList.add("over");
});
document.addEventListener("dragleave", (e) => {
  if (!e.relatedTarget) $("drop").classList.remove("over");
});
document.addEventListener("drop", (e) => {
  e.preventDefault();
  $("drop").classList.remove("over");
  take(e.dataTransfer.files[0]);
});
loadModels();
