// The cluster as /api/cluster tells it, asked once a second. The token stays in this page's memory.

const EVERY_MS = 1000;
const status = document.getElementById("status");
const cluster = document.getElementById("cluster");
const form = document.getElementById("sign-in");
const input = document.getElementById("token");
const mint = document.getElementById("mint");
let token = null;
let timer = null;

function say(text, bad = false) {
  status.textContent = text;
  status.classList.toggle("bad", bad);
}

function element(name, ...children) {
  const made = document.createElement(name);
  made.append(...children);
  return made;
}

const isObject = (value) => value !== null && typeof value === "object";

// Any value of the answer: a list of objects is a table with a column a field, an object a table of two columns.
function shown(value) {
  if (Array.isArray(value) && value.length > 0 && value.every((row) => isObject(row) && !Array.isArray(row))) {
    const columns = [...new Set(value.flatMap((row) => Object.keys(row)))];
    const head = element("tr", ...columns.map((name) => element("th", name)));
    const rows = value.map((row) => element("tr", ...columns.map((name) => element("td", shown(row[name] ?? "")))));
    return element("table", head, ...rows);
  }
  if (Array.isArray(value)) {
    return document.createTextNode(value.length === 0 ? "none" : value.map((one) => (isObject(one) ? JSON.stringify(one) : one)).join(", "));
  }
  if (isObject(value)) {
    return element("table", ...Object.entries(value).map(([name, one]) => element("tr", element("th", name), element("td", shown(one)))));
  }
  return document.createTextNode(String(value));
}

function show(answer) {
  cluster.replaceChildren(...Object.entries(answer).flatMap(([name, value]) => [element("h2", name), shown(value)]));
}

// One look; then the next, unless the token is no longer good.
async function look() {
  try {
    const response = await fetch("/api/cluster", { headers: { Authorization: `Bearer ${token}` } });
    const answer = await response.json();
    if (response.status === 401 || response.status === 403) {
      say(`${answer.error.code}: ${answer.error.message}`, true);
      form.hidden = false;
      return;
    }
    if (response.ok) {
      form.hidden = true;
      show(answer);
      say(`As of ${new Date().toLocaleTimeString()}`);
    } else {
      say(`${answer.error.code}: ${answer.error.message}. Trying again.`, true);
    }
  } catch {
    say("This node does not answer. What stands below is old. Trying again.", true);
  }
  timer = setTimeout(look, EVERY_MS);
}

function begin(given) {
  clearTimeout(timer);
  token = given;
  look();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  begin(input.value.trim());
  input.value = "";
});

mint.addEventListener("click", async () => {
  const body = JSON.stringify({ user: "operator", ttl: 3600, scope: "chat admin" });
  try {
    const response = await fetch("/dev/token", { method: "POST", body, headers: { "Content-Type": "application/json" } });
    const answer = await response.json();
    if (response.ok) begin(answer.token);
    else say(answer.error.message, true);
  } catch {
    say("This node does not answer.", true);
  }
});

const config = await (await fetch("/config.json")).json();
document.title = `Tidegate: the cluster, by ${config.node}`;
mint.hidden = !config.dev_issuer;
