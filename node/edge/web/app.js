/** The page: the door, and behind it the chat. */

import { Chat, titleOf } from "./chat.js";
import { write } from "./composer.js";
import { Conversation } from "./conversation.js";
import { Credentials } from "./credentials.js";
import { classes, html, render, useEffect, useLayoutEffect, useState } from "./html.js";
import { RoomsDialog } from "./rooms-dialog.js";
import { Side } from "./side.js";
import { Sidebar } from "./sidebar.js";
import { Nodes } from "./nodes.js";
import { NewToken, SignIn } from "./signin.js";

const asked = new URLSearchParams(location.search);
const TTL = Number(asked.get("ttl")) || 300; // of the dev issuer's tokens, in seconds
const RENEW = asked.get("renew") !== "0"; // 0: let each token run out, to see what happens

function App({ config, nodes }) {
  const [chat, setChat] = useState(null);
  const [credentials, setCredentials] = useState(() => Credentials.kept(nodes.urls));
  useEffect(() => {
    if (credentials === null) return undefined;
    credentials.keep();
    const started = new Chat({ nodes, getToken: credentials.getToken, renew: RENEW });
    setChat(started);
    return () => started.close();
  }, [credentials]);
  const enter = (given) => setCredentials(new Credentials({ ...given, urls: nodes.urls }));
  const leave = () => {
    Credentials.forget();
    setChat(null);
    setCredentials(null);
    document.title = "Tidegate";
  };
  if (credentials === null) {
    const name = new URLSearchParams(location.hash.slice(1)).get("as") ?? "";
    return html`<${SignIn} config=${config} ttl=${TTL} name=${name} why=${null} onEnter=${enter} />`;
  }
  return chat && html`<${Shell} chat=${chat} credentials=${credentials} onSignOut=${leave} />`;
}

function Shell({ chat, credentials, onSignOut }) {
  const [, redraw] = useState(0);
  const [side, setSide] = useState(null);
  const [adding, setAdding] = useState(false);
  useLayoutEffect(() => chat.subscribe(() => redraw((count) => count + 1)), [chat]); // an effect would miss the first changes
  useEffect(() => {
    document.title = titleOf(chat);
  });
  useEffect(() => {
    const keys = (event) => {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
        event.preventDefault();
        setSide("search");
      }
    };
    const looking = () => chat.seen(chat.atEnd);
    document.addEventListener("keydown", keys);
    document.addEventListener("visibilitychange", looking);
    return () => {
      document.removeEventListener("keydown", keys);
      document.removeEventListener("visibilitychange", looking);
    };
  }, [chat]);
  const close = () => {
    setSide(null);
    write();
  };
  const freshToken = (token) => {
    credentials.token = token;
    credentials.keep();
    chat.signIn = null;
    chat.tide.retry();
    chat.changed();
  };
  const pane = side !== null ? "side" : chat.current !== null ? "conversation" : "rooms";
  return html`
    <div class=${classes("shell", side && "has-side")} data-pane=${pane}>
      <${Sidebar} chat=${chat} onAdd=${() => setAdding(true)} onSearch=${() => setSide("search")} onLink=${() => setSide("link")} />
      <${Conversation} chat=${chat} side=${side} onSide=${setSide} onAdd=${() => setAdding(true)} />
      ${side && html`<${Side} chat=${chat} pane=${side} onClose=${close} onSignOut=${onSignOut} />`}
      ${adding && html`<${RoomsDialog} chat=${chat} onClose=${() => setAdding(false)} />`}
      ${chat.signIn && html`<${NewToken} why=${chat.signIn} onToken=${freshToken} onLeave=${onSignOut} />`}
      <${Notice} notice=${chat.notice} />
      <p class="sr-only" role="status" aria-live="polite" data-test="said">${chat.said}</p>
    </div>
  `;
}

function Notice({ notice }) {
  const [shown, setShown] = useState(null);
  useEffect(() => {
    setShown(notice);
    const timer = setTimeout(() => setShown(null), 6_000);
    return () => clearTimeout(timer);
  }, [notice]);
  return shown && html`<p class="notice notice-${shown.tone}" role=${shown.tone === "bad" ? "alert" : "status"}>${shown.text}</p>`;
}

async function start() {
  const config = await (await fetch("/config.json")).json();
  const urls = [...new Set([location.origin, ...config.peers.map((url) => new URL(url).origin)])];
  const nodes = new Nodes(urls);
  nodes.learn(location.origin, config.node);
  render(html`<${App} config=${config} nodes=${nodes} />`, document.getElementById("page"));
}

start();
