package notes;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.sql.SQLException;
import java.util.stream.Collectors;

/** GET and POST /api/notes, GET /api/health; every answer is JSON. */
final class Api implements HttpHandler {
    private static final int MAX_BODY_BYTES = 16 * 1024;
    private static final int MAX_TEXT_CHARACTERS = 1000;

    private record Answer(int status, String body) {
        static Answer error(int status, String message) {
            return new Answer(status, "{\"error\":" + Json.quote(message) + "}");
        }
    }

    private final NoteStore notes;

    Api(NoteStore notes) {
        this.notes = notes;
    }

    @Override
    public void handle(HttpExchange exchange) throws IOException {
        try (exchange) {
            Answer answer;
            try {
                answer = answer(exchange);
            } catch (IllegalArgumentException failure) {
                answer = Answer.error(400, failure.getMessage());
            } catch (SQLException failure) {
                System.err.println("database: " + failure.getMessage());
                answer = Answer.error(503, "the database does not answer");
            }
            send(exchange, answer);
        }
    }

    private Answer answer(HttpExchange exchange) throws IOException, SQLException {
        String request = exchange.getRequestMethod() + " " + exchange.getRequestURI().getPath();
        return switch (request) {
            case "GET /api/health" -> health();
            case "GET /api/notes" -> list();
            case "POST /api/notes" -> add(exchange);
            default -> unknown(request);
        };
    }

    private static Answer unknown(String request) {
        boolean known = request.endsWith(" /api/notes") || request.endsWith(" /api/health");
        return known ? Answer.error(405, "method not allowed: " + request) : Answer.error(404, "not found: " + request);
    }

    private Answer health() throws SQLException {
        notes.check();
        return new Answer(200, "{\"status\":\"ok\"}");
    }

    private Answer list() throws SQLException {
        return new Answer(200, notes.list().stream().map(Note::toJson).collect(Collectors.joining(",", "[", "]")));
    }

    private Answer add(HttpExchange exchange) throws IOException, SQLException {
        byte[] body = exchange.getRequestBody().readNBytes(MAX_BODY_BYTES + 1);
        if (body.length > MAX_BODY_BYTES) {
            return Answer.error(413, "the request is larger than " + MAX_BODY_BYTES + " bytes");
        }
        String text = Json.stringMembers(utf8(body)).get("text");
        if (text == null || text.isBlank() || text.codePointCount(0, text.length()) > MAX_TEXT_CHARACTERS) {
            return Answer.error(400, "\"text\" must have 1 to " + MAX_TEXT_CHARACTERS + " characters");
        }
        return new Answer(201, notes.add(text).toJson());
    }

    private static String utf8(byte[] body) {
        try {
            return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(body)).toString();
        } catch (CharacterCodingException failure) {
            throw new IllegalArgumentException("the request is not UTF-8");
        }
    }

    private static void send(HttpExchange exchange, Answer answer) throws IOException {
        byte[] body = answer.body().getBytes(StandardCharsets.UTF_8);
        exchange.getResponseHeaders().set("Content-Type", "application/json");
        exchange.getResponseHeaders().set("Cache-Control", "no-store");
        exchange.sendResponseHeaders(answer.status(), body.length);
        exchange.getResponseBody().write(body);
    }
}
