for (const button of document.querySelectorAll('button[data-copy]')) {
  const told = document.getElementById('told');
  button.hidden = false;
  button.addEventListener('click', async () => {
    const code = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      getSelection().selectAllChildren(code);
      told.textContent = 'Selected; copy it with the keyboard';
      return;
    }
    told.textContent = 'Copied';
    button.textContent = 'Copied';
    setTimeout(() => { button.textContent = 'Copy'; told.textContent = ''; }, 2000);
  });
}
for (const button of document.querySelectorAll('button[data-zone]')) {
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const minutes = -new Date().getTimezoneOffset();
  const offset = (minutes < 0 ? '-' : '+') + new Date(Math.abs(minutes) * 60000).toISOString().slice(11, 16);
  button.value = document.querySelector('[data-offsets]') ? offset : name;
  button.textContent = name;
  button.hidden = false;
  button.addEventListener('click', () => button.form.elements.tz[0].removeAttribute('name'));
}
if (document.body.hasAttribute('data-refresh')) {
  const key = 'open ' + location.pathname;
  const all = () => [...document.querySelectorAll('main details')];
  const open = JSON.parse(sessionStorage.getItem(key) || '[]');
  all().forEach((each, at) => { each.open = each.open || open.includes(at); });
  addEventListener('pagehide', () => {
    sessionStorage.setItem(key, JSON.stringify(all().flatMap((each, at) => each.open ? [at] : [])));
  });
}
