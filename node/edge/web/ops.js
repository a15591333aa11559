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

// Any value of the answer. Rows of fields are a table with a column a field: a list of objects, or objects by name.
function shown(value) {
  if (Array.isArray(value)) return value.length > 0 && value.every(isRecord) ? rows(value) : document.createTextNode(listed(value));
  if (!isRecord(value)) return document.createTextNode(String(value));
  const entries = Object.entries(value);
  if (entries.length === 0) return document.createTextNode("none");
  if (entries.every(([, one]) => isRecord(one) && Object.values(one).some(isRecord))) {
    return rows(entries.map(([name, one]) => ({ name, ...one })));
  }
  if (entries.every(([, one]) => !isRecord(one))) return document.createTextNode(entries.map(([name, one]) => `${name}: ${one}`).join(", "));
  return element("table", ...entries.map(([name, one]) => element("tr", element("th", name), element("td", shown(one)))));
}

const isRecord = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const listed = (values) => (values.length === 0 ? "none" : values.map((one) => (typeof one === "object" ? JSON.stringify(one) : one)).join(", "));

function rows(records) {
  const columns = [...new Set(records.flatMap((record) => Object.keys(record)))];
  const head = element("tr", ...columns.map((name) => element("th", name)));
  return element("table", head, ...records.map((record) => element("tr", ...columns.map((name) => element("td", shown(record[name] ?? ""))))));
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
