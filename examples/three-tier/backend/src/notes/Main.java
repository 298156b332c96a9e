package notes;

import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** Serves the notes on port 8080; the environment names the database. */
public final class Main {
    private static final int PORT = 8080;
    private static final int THREADS = 8;
    private static final long DATABASE_TIMEOUT_MILLIS = 60_000;

    private Main() {}

    public static void main(String[] arguments) throws Exception {
        ConnectionPool pool = new ConnectionPool(
                environment("DB_HOST"), environment("DB_NAME"), environment("DB_USER"), environment("DB_PASSWORD"));
        pool.await(DATABASE_TIMEOUT_MILLIS);
        ExecutorService workers = Executors.newFixedThreadPool(THREADS);
        HttpServer server = HttpServer.create(new InetSocketAddress(PORT), 0);
        server.setExecutor(workers);
        server.createContext("/", new Api(new NoteStore(pool)));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            server.stop(0);
            workers.shutdown();
            pool.close();
        }));
        server.start();
        System.out.println("listening on port " + PORT);
    }

    private static String environment(String name) {
        String value = System.getenv(name);
        if (value == null || value.isEmpty()) {
            System.err.println(name + " is not set; DB_HOST, DB_NAME, DB_USER and DB_PASSWORD name the database");
            System.exit(2);
        }
        return value;
    }
}
