package clients;

import java.util.List;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;

/** Assertions that say what was found. */
final class Check {
    private Check() {}

    interface Action {
        Object run() throws Exception;
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static void equal(Object found, Object wanted, String what) {
        check(Objects.equals(found, wanted), what + ": found " + brief(found) + ", wanted " + brief(wanted));
    }

    /** Compares one by one, so that a failure names the first that differs. */
    static <T> void same(List<T> found, List<T> wanted, String what) {
        for (int i = 0; i < Math.min(found.size(), wanted.size()); i++) {
            equal(found.get(i), wanted.get(i), what + ", number " + i);
        }
        equal(found.size(), wanted.size(), what + ", how many");
    }

    /** Checks that the action throws this kind of exception, and returns it. */
    static <E extends Exception> E fails(Class<E> kind, Action action, String what) throws Exception {
        Object result;
        try {
            result = action.run();
        } catch (Exception error) {
            if (kind.isInstance(error)) {
                return kind.cast(error);
            }
            throw error;
        }
        throw new AssertionError(what + ": no error, but " + brief(result));
    }

    /** Waits until the condition holds. */
    static void until(String what, Callable<Boolean> condition) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
        while (!condition.call()) {
            check(System.nanoTime() < deadline, what + ": not within 30 s");
            Thread.sleep(20);
        }
    }

    private static String brief(Object value) {
        String text = String.valueOf(value);
        return text.length() <= 300 ? text : text.substring(0, 300) + "... (" + text.length() + " characters)";
    }
}
