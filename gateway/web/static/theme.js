// Runs before the page is painted: applies the theme that was chosen, so that
// nothing flashes, and says that scripts run. The switch itself is in app.js.
(function () {
  var root = document.documentElement;
  root.classList.add("js");
  try {
    var theme = localStorage.getItem("davit-theme");
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  } catch (e) { /* storage is off: the system's theme holds */ }
})();
