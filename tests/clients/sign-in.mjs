// A person at a browser, without the browser: signs in and allows, in the forms of the login and consent pages.

const entities = { "&amp;": "&", "&#38;": "&", "&#34;": '"', "&quot;": '"', "&#39;": "'", "&lt;": "<", "&gt;": ">" };
const unescape = (text) => text.replace(/&[#a-z0-9]+;/g, (entity) => entities[entity] ?? entity);

/** Opens an authorization URL and returns the callback URL that the browser would go to. */
export async function signIn(authorizeUrl, { admin_username, admin_password }) {
  let url = new URL(authorizeUrl);
  const here = url.origin;
  const cookies = new Map();
  let form;
  for (let step = 0; step < 10; step++) {
    const answer = await fetch(url, {
      method: form ? "POST" : "GET",
      body: form,
      redirect: "manual",
      headers: { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join("; "), origin: here },
    });
    for (const cookie of answer.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie);
      cookies.set(name, value);
    }
    const html = await answer.text();
    const location = answer.headers.get("location");
    if (location) {
      url = new URL(location, url);
      form = undefined;
      if (url.origin !== here) return url;
      continue;
    }
    if (!answer.ok) throw new Error(`${url}: ${answer.status}\n${html}`);
    const action = /<form [^>]*action="([^"]*)"/.exec(html)?.[1];
    form = new URLSearchParams();
    for (const [, tag] of html.matchAll(/<input ([^>]*)>/g)) {
      const attributes = Object.fromEntries([...tag.matchAll(/(\w+)="([^"]*)"/g)].map(([, name, value]) => [name, value]));
      if (attributes.type === "hidden") form.set(attributes.name, unescape(attributes.value));
    }
    if (action === "/login") {
      form.set("username", admin_username);
      form.set("password", admin_password);
    } else if (action === "/login/consent") {
      form.set("decision", "allow");
    } else {
      throw new Error(`${url} leads nowhere:\n${html}`);
    }
    url = new URL(unescape(action), url);
  }
  throw new Error(`${url}: too many steps`);
}

/** What an SDK's OAuth client needs, in memory, with a person who signs in when sent to the browser. */
export class Person {
  visits = 0;
  redirectUrl = "http://127.0.0.1:9/callback";

  constructor(name, ready) {
    this.ready = ready;
    this.clientMetadata = {
      client_name: name,
      redirect_uris: [this.redirectUrl],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      token_endpoint_auth_method: "none",
    };
  }
  clientInformation() {
    return this.client;
  }
  saveClientInformation(client) {
    this.client = client;
  }
  tokens() {
    return this.saved;
  }
  saveTokens(tokens) {
    this.saved = tokens;
  }
  saveDiscoveryState(state) {
    this.discovered = state;
  }
  discoveryState() {
    return this.discovered;
  }
  saveCodeVerifier(verifier) {
    this.verifier = verifier;
  }
  codeVerifier() {
    return this.verifier;
  }
  async redirectToAuthorization(url) {
    this.visits++;
    this.callback = await signIn(url, this.ready);
  }
}
