import { useEffect, useState } from 'react'
import { addNote, listNotes } from './api.js'

function NoteForm({ onAdd }) {
  const [text, setText] = useState('')
  const [sending, setSending] = useState(false)

  async function submit(event) {
    event.preventDefault()
    setSending(true)
    const stored = await onAdd(text)
    setSending(false)
    if (stored) {
      setText('')
    }
  }

  return (
    <form onSubmit={submit}>
      <label htmlFor="text">New note</label>
      <input id="text" value={text} maxLength={1000} required onChange={(event) => setText(event.target.value)} />
      <button type="submit" disabled={sending || text.trim() === ''}>
        Add
      </button>
    </form>
  )
}

function NoteList({ notes }) {
  if (notes === null) {
    return <p>Loading…</p>
  }
  if (notes.length === 0) {
    return <p>No notes yet.</p>
  }
  return (
    <ul>
      {notes.map((note) => (
        <li key={note.id}>
          <span>{note.text}</span>
          <time dateTime={note.createdAt}>{new Date(note.createdAt).toLocaleString()}</time>
        </li>
      ))}
    </ul>
  )
}

export default function App() {
  const [notes, setNotes] = useState(null)
  const [error, setError] = useState('')

  useEffect(() => {
    const controller = new AbortController()
    listNotes(controller.signal)
      .then(setNotes)
      .catch((failure) => {
        if (failure.name !== 'AbortError') {
          setError(failure.message)
        }
      })
    return () => controller.abort()
  }, [])

  async function add(text) {
    try {
      const note = await addNote(text)
      setNotes((current) => [note, ...(current ?? [])])
      setError('')
      return true
    } catch (failure) {
      setError(failure.message)
      return false
    }
  }

  return (
    <main>
      <h1>Notes</h1>
      <NoteForm onAdd={add} />
      {error && <p role="alert">{error}</p>}
      <NoteList notes={notes} />
    </main>
  )
}
