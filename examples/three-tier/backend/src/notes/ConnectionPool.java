package notes;

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.Properties;
import java.util.concurrent.ArrayBlockingQueue;

/** A few idle connections, tested before they are handed out again; a broken one is replaced. */
final class ConnectionPool implements AutoCloseable {
    /** Work done with a connection. */
    interface Work<T> {
        T with(Connection connection) throws SQLException;
    }

    private static final int IDLE_CONNECTIONS = 4;
    private static final int TEST_SECONDS = 1;

    private final String url;
    private final Properties properties = new Properties();
    private final ArrayBlockingQueue<Connection> idle = new ArrayBlockingQueue<>(IDLE_CONNECTIONS);

    ConnectionPool(String host, String database, String user, String password) {
        url = "jdbc:mariadb://" + host + "/" + database;
        properties.setProperty("user", user);
        properties.setProperty("password", password);
        properties.setProperty("connectTimeout", "2000");
        properties.setProperty("socketTimeout", "5000");
    }

    /** Runs {@code work} with a connection that answered just now, and keeps the connection if the work succeeds. */
    <T> T run(Work<T> work) throws SQLException {
        Connection connection = take();
        boolean healthy = false;
        try {
            T result = work.with(connection);
            healthy = true;
            return result;
        } finally {
            if (!healthy || !idle.offer(connection)) {
                closeQuietly(connection);
            }
        }
    }

    /** Waits until the database answers, trying ever more slowly. Throws the last failure after the time-out. */
    void await(long timeoutMillis) throws SQLException, InterruptedException {
        long deadline = System.nanoTime() + timeoutMillis * 1_000_000L;
        long pauseMillis = 100;
        while (true) {
            try {
                run(connection -> connection.isValid(TEST_SECONDS));
                return;
            } catch (SQLException failure) {
                if (System.nanoTime() >= deadline) {
                    throw failure;
                }
                System.err.println("database not ready, next try in " + pauseMillis + " ms: " + failure.getMessage());
            }
            Thread.sleep(pauseMillis);
            pauseMillis = Math.min(pauseMillis * 2, 2000);
        }
    }

    @Override
    public void close() {
        for (Connection connection = idle.poll(); connection != null; connection = idle.poll()) {
            closeQuietly(connection);
        }
    }

    private Connection take() throws SQLException {
        for (Connection connection = idle.poll(); connection != null; connection = idle.poll()) {
            if (connection.isValid(TEST_SECONDS)) {
                return connection;
            }
            closeQuietly(connection);
        }
        return DriverManager.getConnection(url, properties);
    }

    private static void closeQuietly(Connection connection) {
        try {
            connection.close();
        } catch (SQLException ignored) {
            // The connection is given up: nobody could do anything about this failure.
        }
    }
}
