/** The pages around the dashboard: plain HTML, without scripts. */

const STYLE = `
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: #f4f6f8; color: #1c2733;
  font: 16px/1.5 system-ui, sans-serif; }
form { display: grid; gap: 0.9rem; width: 20rem; padding: 2rem; border-radius: 10px; background: #fff;
  box-shadow: 0 2px 16px #1c27331f; }
h1 { margin: 0; font-size: 1.25rem; }
p { margin: 0; }
label { display: grid; gap: 0.3rem; }
input, button { font: inherit; padding: 0.5rem 0.7rem; border-radius: 6px; border: 1px solid #9aa7b4; }
button { background: #1d5fa8; border-color: #1d5fa8; color: #fff; cursor: pointer; }
.wrong { color: #a3211b; }
@media (prefers-color-scheme: dark) {
  body { background: #151a21; color: #dbe3ec; }
  form { background: #1f2630; box-shadow: none; }
  input { background: #151a21; color: inherit; }
  .wrong { color: #ff9c94; }
}`;

/**
 * For Bull Board's pages, which have no switch for it: leaves of the buttons that change something those that retry.
 * The others would be refused; should Bull Board call its buttons otherwise one day, they are seen again, and still
 * refused.
 */
export const RETRY_ONLY_STYLE = `<style>
ul[class^="jobActions-"] > li:not(:has(.lucide-refresh-cw)),
ul[class^="queueActions-"] > li:not(:has(.lucide-refresh-cw)),
button:has(.lucide-ellipsis-vertical) { display: none; }
</style>`;

/** Where a person gives a token. @param wrong what was wrong with the last one, as text without markup. */
export function loginPage(wrong?: string): string {
  return page(`<form method="post" action="login">
<h1>Voicemail Archiver</h1>
${wrong ? `<p class="wrong" role="alert">${wrong}</p>` : ''}
<label>API token <input type="password" name="token" required autofocus autocomplete="current-password"></label>
<button>Log in</button>
</form>`);
}

/** Where a person ends a session. */
export function logoutPage(): string {
  return page(`<form method="post" action="logout">
<h1>Voicemail Archiver</h1>
<p>You are leaving the dashboard.</p>
<button>Log out</button>
</form>`);
}

function page(content: string): string {
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Voicemail Archiver</title>
<style>${STYLE}</style>
</head>
<body>
<main>
${content}
</main>
</body>
</html>
`;
}
