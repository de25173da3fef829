// What agents said, as Markdown.
import { render } from "./markdown.js";

for (const where of document.querySelectorAll("[data-markdown]")) render(where.textContent, where);
