// Before the first paint: the theme and language the user chose, so that nothing flashes.
try {
  var theme = localStorage.getItem("dumont.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch (blocked) {
  // Storage may be forbidden; the system's theme then holds.
}
