package astraios;

import com.sun.source.util.JavacTask;
import com.sun.tools.javac.api.JavacTaskPool;
import com.sun.tools.javac.api.JavacTool;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.io.Writer;
import java.net.URI;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import javax.tools.Diagnostic;
import javax.tools.DiagnosticCollector;
import javax.tools.FileObject;
import javax.tools.ForwardingJavaFileManager;
import javax.tools.JavaFileManager;
import javax.tools.JavaFileObject;
import javax.tools.SimpleJavaFileObject;
import javax.tools.StandardLocation;

/**
 * Compiles one source after the other, in memory.
 *
 * What the compiler knows of the library is kept from one source to the next, which saves most of
 * its time. What a source makes it know is taken out again; should some of that stay, it could
 * only do harm by letting a later source refer to a class that is not among its own, which then
 * fails when it runs. A source that does not compile that way is compiled once more from nothing,
 * and that decides.
 *
 * The last line of a source declares a type of a name that nobody guesses. It tells whether all of
 * the source was read: javac takes the character SUB for the end of a file, wherever it stands.
 */
final class Units {
    /** Concatenation without method handles: to make those takes a short program's whole time. */
    private static final List<String> OPTIONS =
            List.of("-proc:none", "-nowarn", "-g:none", "-implicit:none", "-XDstringConcat=inline");
    private static final String START = "\ninterface ";
    private static final String END = " {}";
    private static final int PROGRAMS_A_POOL = 500;
    private static final int LONGEST_PROBLEM = 2000;

    private final JavacTool tool = JavacTool.create();
    private final Files files = new Files(tool.getStandardFileManager(null, null, null));
    private JavacTaskPool pool = new JavacTaskPool(1);
    private int inPool;

    /** What became of a source: all its classes, or what is wrong with it. */
    static final class Made {
        final byte[] content;
        final String problem;

        private Made(byte[] content, String problem) {
            this.content = content;
            this.problem = problem;
        }
    }

    Made compile(String text) throws IOException {
        if (!text.endsWith(END)) {
            return new Made(null, "Main.java: error: the source has no last line");
        }
        List<Source> units = List.of(new Source(text));
        if (inPool++ >= PROGRAMS_A_POOL) {
            forget();
        }
        int name = text.lastIndexOf(START) + START.length();
        String end = text.substring(name, text.length() - END.length());
        if (!isApart(text) && isMadeInPool(units)) {
            return made(end);
        }
        DiagnosticCollector<JavaFileObject> problems = new DiagnosticCollector<>();
        StringWriter said = new StringWriter();
        files.made.clear();
        try {
            if (tool.getTask(said, files, problems, OPTIONS, null, units).call()) {
                return made(end);
            }
        } catch (RuntimeException | StackOverflowError broken) {
            return new Made(null, "Main.java: error: the compiler fails: " + broken);
        } catch (OutOfMemoryError full) {
            forget();
            return new Made(null, "Main.java: error: the compiler needs too much memory");
        }
        String problem = first(problems.getDiagnostics());
        if (problem == null) { // it gave up, out of memory or stack
            forget();
            problem = "Main.java: error: the compiler gives up: " + reason(said.toString());
        }
        return new Made(null, problem);
    }

    /** Whether it may add to the library's packages, for whoever comes after it. */
    private static boolean isApart(String text) {
        return text.contains("package") || text.contains("\\u"); // letters may be escaped
    }

    private Made made(String end) throws IOException {
        // Behind the name of a package, if it has one.
        if (!files.made.keySet().removeIf(name -> name.endsWith(end))) {
            return new Made(null, "Main.java: error: the source ends before its last line");
        }
        return new Made(files.packed(), null);
    }

    private boolean isMadeInPool(List<Source> units) {
        files.made.clear();
        try {
            return pool.getTask(
                    new PrintWriter(Writer.nullWriter()), files, new DiagnosticCollector<>(),
                    OPTIONS, null, units, JavacTask::call);
        } catch (Throwable broken) { // it is compiled again, which tells what is wrong
            forget();
            return false;
        }
    }

    private void forget() {
        pool = new JavacTaskPool(1);
        inPool = 0;
        files.lists.clear(); // sources may name packages without end
    }

    /** The exception in what the compiler says of its own failure. */
    private static String reason(String said) {
        for (String line : said.split("\n")) {
            if (line.startsWith("java.")) {
                return line.substring(0, Math.min(line.length(), LONGEST_PROBLEM));
            }
        }
        return "out of memory or stack";
    }

    /** The first error, or null. */
    private static String first(List<Diagnostic<? extends JavaFileObject>> problems) {
        for (Diagnostic<? extends JavaFileObject> problem : problems) {
            if (problem.getKind() == Diagnostic.Kind.ERROR) {
                String text = problem.getMessage(Locale.ROOT);
                text = text.substring(0, Math.min(text.length(), LONGEST_PROBLEM));
                return "Main.java:" + problem.getLineNumber() + ": error: " + text;
            }
        }
        return null;
    }

    private static final class Source extends SimpleJavaFileObject {
        private final String text;

        Source(String text) {
            super(URI.create("string:///Main.java"), Kind.SOURCE);
            this.text = text;
        }

        @Override
        public CharSequence getCharContent(boolean ignoreEncodingErrors) {
            return text;
        }
    }

    /** The classes of one program in memory, and lists of the library's packages kept. */
    private static final class Files extends ForwardingJavaFileManager<JavaFileManager> {
        final Map<String, ByteArrayOutputStream> made = new TreeMap<>();
        private final Map<String, Iterable<JavaFileObject>> lists = new HashMap<>();

        Files(JavaFileManager library) {
            super(library);
        }

        @Override
        public JavaFileObject getJavaFileForOutput(
                Location location, String name, JavaFileObject.Kind kind, FileObject sibling) {
            ByteArrayOutputStream content = new ByteArrayOutputStream();
            made.put(name, content);
            return new SimpleJavaFileObject(URI.create("memory:///made.class"), kind) {
                @Override
                public OutputStream openOutputStream() {
                    return content;
                }
            };
        }

        /** The library's; there are no other classes or sources than the program's own. */
        @Override
        public Iterable<JavaFileObject> list(
                Location location, String name, Set<JavaFileObject.Kind> kinds, boolean recurse)
                throws IOException {
            if (location instanceof StandardLocation) {
                return List.of();
            }
            String key = location.getName() + '/' + name + kinds + recurse;
            Iterable<JavaFileObject> found = lists.get(key);
            if (found == null) {
                List<JavaFileObject> all = new ArrayList<>();
                super.list(location, name, kinds, recurse).forEach(all::add);
                lists.put(key, found = all);
            }
            return found;
        }

        byte[] packed() throws IOException {
            ByteArrayOutputStream bytes = new ByteArrayOutputStream();
            DataOutputStream out = new DataOutputStream(bytes);
            out.writeInt(made.size());
            for (Map.Entry<String, ByteArrayOutputStream> one : made.entrySet()) {
                out.writeUTF(one.getKey());
                out.writeInt(one.getValue().size());
                one.getValue().writeTo(out);
            }
            return bytes.toByteArray();
        }
    }
}
