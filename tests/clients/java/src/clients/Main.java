package clients;

import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * Runs the cases against the broker that {@code --bootstrap} names, prints a line for each, and last
 * {@code N passed, N failed, N skipped}. Exits with 1 when a case failed. Each case makes topics of its own.
 */
public final class Main {
    private static final int CASE_SECONDS_MAX = 120;

    /** What holds when it returns. */
    interface Body {
        void run(Run run) throws Exception;
    }

    record Case(String name, Body body) {}

    /** What a case gets: the broker, and whether the long form is asked for. */
    record Run(String bootstrap, boolean full) {
        int scale(int small, int large) {
            return full ? large : small;
        }
    }

    public static void main(String[] arguments) {
        String bootstrap = System.getenv("HEADWATER_BOOTSTRAP");
        String only = "";
        boolean full = false;
        for (int i = 0; i < arguments.length; i++) {
            switch (arguments[i]) {
                case "--bootstrap" -> bootstrap = arguments[++i];
                case "--only" -> only = arguments[++i];
                case "--full" -> full = true;
                default -> usage();
            }
        }
        if (bootstrap == null) {
            usage();
        }
        List<Case> cases = new ArrayList<>();
        cases.addAll(Records.CASES);
        cases.addAll(Positions.CASES);
        cases.addAll(Groups.CASES);
        cases.addAll(Churn.CASES);
        cases.addAll(Administration.CASES);
        cases.addAll(Cluster.CASES);
        cases.addAll(Load.CASES);
        int passed = 0;
        int failed = 0;
        for (Case one : cases) {
            if (!one.name().contains(only)) {
                continue;
            }
            if (passes(one, new Run(bootstrap, full))) {
                passed++;
            } else {
                failed++;
            }
        }
        System.out.println(passed + " passed, " + failed + " failed, 0 skipped");
        System.out.flush();
        // Not a return: a client whose thread hangs on a broken broker must not hang the suite.
        Runtime.getRuntime().halt(failed > 0 || passed == 0 ? 1 : 0);
    }

    private static void usage() {
        System.err.println("--bootstrap HOST:PORT (or HEADWATER_BOOTSTRAP) [--full] [--only TEXT]");
        System.exit(2);
    }

    private static boolean passes(Case one, Run run) {
        long start = System.nanoTime();
        Throwable error = null;
        var executor = Executors.newSingleThreadExecutor();
        var future = executor.submit(() -> {
            connect(run);
            one.body().run(run);
            return null;
        });
        try {
            future.get(CASE_SECONDS_MAX, TimeUnit.SECONDS);
        } catch (ExecutionException failure) {
            error = failure.getCause();
        } catch (TimeoutException | InterruptedException failure) {
            error = new AssertionError("not done after " + CASE_SECONDS_MAX + " s");
        }
        executor.shutdownNow();
        if (error != null) {
            var trace = new StringWriter();
            error.printStackTrace(new PrintWriter(trace));
            System.out.print(trace);
        }
        double seconds = (System.nanoTime() - start) / 1e9;
        System.out.printf("%s %s (%.1f s)%s%n", error == null ? "PASS" : "FAIL", one.name(), seconds,
                error == null ? "" : ": " + error);
        return error == null;
    }

    /** Asked before each case: once the broker is gone, the rest need not wait for their clients to notice. */
    private static void connect(Run run) throws IOException {
        int colon = run.bootstrap().lastIndexOf(':');
        int port = Integer.parseInt(run.bootstrap().substring(colon + 1));
        try (var socket = new Socket()) {
            socket.connect(new InetSocketAddress(run.bootstrap().substring(0, colon), port), 5000);
        }
    }
}
