package notes;

import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;

/** Notes in the database. */
final class NoteStore {
    private static final String LIST = "SELECT id, text, created_at FROM notes ORDER BY id DESC LIMIT 100";
    private static final String ADD = "INSERT INTO notes (text) VALUES (?)";
    private static final String GET = "SELECT id, text, created_at FROM notes WHERE id = ?";

    private final ConnectionPool pool;

    NoteStore(ConnectionPool pool) {
        this.pool = pool;
    }

    /** The newest hundred notes, newest first. */
    List<Note> list() throws SQLException {
        return pool.run(connection -> {
            try (PreparedStatement statement = connection.prepareStatement(LIST); ResultSet rows = statement.executeQuery()) {
                List<Note> notes = new ArrayList<>();
                while (rows.next()) {
                    notes.add(note(rows));
                }
                return notes;
            }
        });
    }

    /** Stores a note and returns it with its number and time. */
    Note add(String text) throws SQLException {
        return pool.run(connection -> {
            long id;
            try (PreparedStatement insert = connection.prepareStatement(ADD, Statement.RETURN_GENERATED_KEYS)) {
                insert.setString(1, text);
                insert.executeUpdate();
                try (ResultSet keys = insert.getGeneratedKeys()) {
                    keys.next();
                    id = keys.getLong(1);
                }
            }
            try (PreparedStatement select = connection.prepareStatement(GET)) {
                select.setLong(1, id);
                try (ResultSet row = select.executeQuery()) {
                    row.next();
                    return note(row);
                }
            }
        });
    }

    /** Fails if the database does not answer. */
    void check() throws SQLException {
        pool.run(connection -> {
            try (Statement statement = connection.createStatement()) {
                return statement.execute("SELECT 1 FROM notes LIMIT 1");
            }
        });
    }

    private static Note note(ResultSet row) throws SQLException {
        return new Note(row.getLong("id"), row.getString("text"), row.getTimestamp("created_at").toInstant());
    }
}
