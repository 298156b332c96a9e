package notes;

import java.util.LinkedHashMap;
import java.util.Map;

/** Reads one flat JSON object of strings and writes JSON strings; all that this service needs of JSON. */
final class Json {
    private final String input;
    private int position;

    private Json(String input) {
        this.input = input;
    }

    /** The members of a JSON object whose values are all strings. Throws IllegalArgumentException otherwise. */
    static Map<String, String> stringMembers(String input) {
        Json json = new Json(input);
        Map<String, String> members = json.object();
        json.skipSpace();
        if (json.position != input.length()) {
            throw json.error("text after the object");
        }
        return members;
    }

    /** {@code value} as a JSON string, quotes included. */
    static String quote(String value) {
        StringBuilder out = new StringBuilder(value.length() + 16).append('"');
        for (int i = 0; i < value.length(); i++) {
            char c = value.charAt(i);
            switch (c) {
                case '"' -> out.append("\\\"");
                case '\\' -> out.append("\\\\");
                case '\n' -> out.append("\\n");
                case '\r' -> out.append("\\r");
                case '\t' -> out.append("\\t");
                default -> {
                    if (c < 0x20 || (Character.isSurrogate(c) && !inPair(value, i))) {
                        out.append(String.format("\\u%04x", (int) c));
                    } else {
                        out.append(c);
                    }
                }
            }
        }
        return out.append('"').toString();
    }

    private static boolean inPair(String value, int i) {
        char c = value.charAt(i);
        if (Character.isHighSurrogate(c)) {
            return i + 1 < value.length() && Character.isLowSurrogate(value.charAt(i + 1));
        }
        return i > 0 && Character.isHighSurrogate(value.charAt(i - 1));
    }

    private Map<String, String> object() {
        Map<String, String> members = new LinkedHashMap<>();
        skipSpace();
        expect('{');
        skipSpace();
        if (peek() == '}') {
            position++;
            return members;
        }
        while (true) {
            skipSpace();
            String name = string();
            skipSpace();
            expect(':');
            skipSpace();
            members.put(name, string());
            skipSpace();
            if (peek() == '}') {
                position++;
                return members;
            }
            expect(',');
        }
    }

    private String string() {
        expect('"');
        StringBuilder out = new StringBuilder();
        while (true) {
            char c = next();
            if (c == '"') {
                return out.toString();
            }
            if (c < 0x20) {
                throw error("control character in a string");
            }
            out.append(c == '\\' ? escape() : c);
        }
    }

    private char escape() {
        char c = next();
        return switch (c) {
            case '"', '\\', '/' -> c;
            case 'b' -> '\b';
            case 'f' -> '\f';
            case 'n' -> '\n';
            case 'r' -> '\r';
            case 't' -> '\t';
            case 'u' -> hex4();
            default -> throw error("unknown escape");
        };
    }

    private char hex4() {
        int value = 0;
        for (int i = 0; i < 4; i++) {
            int digit = Character.digit(next(), 16);
            if (digit < 0) {
                throw error("four hexadecimal digits expected");
            }
            value = value * 16 + digit;
        }
        return (char) value;
    }

    private void skipSpace() {
        while (position < input.length() && " \t\r\n".indexOf(input.charAt(position)) >= 0) {
            position++;
        }
    }

    private void expect(char wanted) {
        if (next() != wanted) {
            position--;
            throw error("'" + wanted + "' expected");
        }
    }

    private char peek() {
        return position < input.length() ? input.charAt(position) : '\0';
    }

    private char next() {
        if (position >= input.length()) {
            throw error("unexpected end");
        }
        return input.charAt(position++);
    }

    private IllegalArgumentException error(String cause) {
        return new IllegalArgumentException("invalid JSON at character " + position + ": " + cause);
    }
}
