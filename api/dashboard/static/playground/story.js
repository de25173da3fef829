// A conversation that can branch: each message knows the one before it; the path to the leaf is what is shown.

const STORE = "backline-playground";
const MOST = 4_000_000; // characters that are kept; a page's storage holds about five million

export class Story {
  constructor() {
    this.nodes = {};
    this.leaf = null;
    this.next = 1;
    this.agent = "";
  }

  static restore() {
    const story = new Story();
    try { Object.assign(story, JSON.parse(sessionStorage.getItem(STORE) ?? "{}")); } catch { /* begin anew */ }
    return story;
  }

  keep() {
    try {
      const text = JSON.stringify(this);
      if (text.length <= MOST) sessionStorage.setItem(STORE, text);
    } catch { /* storage is full or switched off: the page goes on without */ }
  }

  add(parent, node) {
    const id = String(this.next++);
    this.nodes[id] = { id, parent, ...node };
    this.leaf = id;
    return this.nodes[id];
  }

  path(to = this.leaf) {
    const path = [];
    for (let id = to; id; id = this.nodes[id]?.parent) if (this.nodes[id]) path.unshift(this.nodes[id]);
    return path;
  }

  siblings(node) {
    return Object.values(this.nodes).filter((each) => each.parent === node.parent);
  }

  // Show the branch that this message is in, down to its newest end.
  choose(node) {
    let at = node;
    for (;;) {
      const below = Object.values(this.nodes).filter((each) => each.parent === at.id);
      if (!below.length) break;
      at = below[below.length - 1];
    }
    this.leaf = at.id;
  }

  // What is sent: the path as OpenAI's messages.
  messages(to = this.leaf) {
    return this.path(to)
      .filter((node) => node.role === "user" || node.text)
      .map((node) => ({
        role: node.role,
        content: node.images?.length
          ? [{ type: "text", text: node.text }, ...node.images.map((url) => ({ type: "image_url", image_url: { url } }))]
          : node.text,
      }));
  }
}
