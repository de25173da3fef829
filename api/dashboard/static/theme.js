// Before the first paint: the theme that the reader chose, else the system's.
(() => {
  let chosen = null;
  try { chosen = localStorage.getItem("backline-theme"); } catch { /* storage is switched off */ }
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
})();
