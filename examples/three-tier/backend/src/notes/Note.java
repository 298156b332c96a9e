package notes;

import java.time.Instant;

/** One note as stored. */
record Note(long id, String text, Instant createdAt) {
    String toJson() {
        return "{\"id\":" + id + ",\"text\":" + Json.quote(text) + ",\"createdAt\":" + Json.quote(createdAt.toString()) + "}";
    }
}
