// Sets dark or light before anything is painted, as chosen the last time.
(function () {
  const chosen = localStorage.getItem("lfscp-theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
})();
