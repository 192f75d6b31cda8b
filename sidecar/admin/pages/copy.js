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
