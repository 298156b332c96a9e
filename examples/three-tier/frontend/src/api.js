async function answerOf(response) {
  const body = await response.json().catch(() => null)
  if (!response.ok) {
    throw new Error(body?.error ?? `the server answered ${response.status}`)
  }
  return body
}

export async function listNotes(signal) {
  return answerOf(await fetch('/api/notes', { signal }))
}

export async function addNote(text) {
  return answerOf(
    await fetch('/api/notes', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ text }),
    }),
  )
}
