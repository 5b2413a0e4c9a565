package astraios;

import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.File;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import sun.misc.Unsafe;

/**
 * Runs the tests of one program, the class Main, and tells the server that their end was reached.
 *
 * The token that says so is read before anything of the program is loaded. It lives in two local
 * variables and never in an object: reflection does not see it there, and a heap dump does not hold
 * it. A program that ends the process by itself takes it along.
 */
public final class Driver extends ClassLoader {
    private static final String PROGRAM = "program";
    private static final int CHANNEL = 3;
    private static final int LONGEST_MESSAGE = 2000;

    private final Map<String, byte[]> classes = new HashMap<>();

    private Driver() throws IOException {
        super(Driver.class.getClassLoader());
        try (DataInputStream in =
                new DataInputStream(new BufferedInputStream(new FileInputStream(PROGRAM)))) {
            for (int left = in.readInt(); left > 0; left--) {
                String name = in.readUTF();
                byte[] content = new byte[in.readInt()];
                in.readFully(content);
                classes.put(name, content);
            }
        }
        new File(PROGRAM).delete(); // a program does not read what the tests expect
    }

    public static void main(String[] arguments) throws Exception {
        FileDescriptor channel = channel();
        FileInputStream in = new FileInputStream(channel);
        long first = number(in);
        long second = number(in);
        in.read(); // what the tests are the class Main tells
        try {
            Driver loader = new Driver();
            Thread.currentThread().setContextClassLoader(loader);
            Class<?> tests = loader.loadClass("Main");
            tests.getMethod("main", String[].class).invoke(null, (Object) arguments);
        } catch (InvocationTargetException thrown) {
            report(thrown.getCause());
            return;
        } catch (Throwable thrown) {
            report(thrown);
            return;
        }
        FileOutputStream out = new FileOutputStream(channel);
        byte[] pass = new byte[21]; // the token and five zeros
        for (int at = 0; at < 8; at++) {
            pass[at] = (byte) (first >>> 56 - 8 * at);
            pass[8 + at] = (byte) (second >>> 56 - 8 * at);
        }
        out.write(pass);
        // Returning waits for other threads, as it does without a driver.
    }

    @Override
    protected Class<?> findClass(String name) throws ClassNotFoundException {
        byte[] content = classes.remove(name);
        if (content == null) {
            throw new ClassNotFoundException(name);
        }
        return defineClass(name, content, 0, content.length);
    }

    private static long number(FileInputStream in) throws IOException {
        long number = 0;
        for (int left = 8; left > 0; left--) {
            int next = in.read(); // one by one, so that no buffer remembers them
            if (next < 0) {
                throw new EOFException("no token");
            }
            number = number << 8 | next;
        }
        return number;
    }

    /** The verdict channel; then nobody opens descriptors or looks through memory that way again. */
    private static FileDescriptor channel() throws ReflectiveOperationException {
        Field own = Unsafe.class.getDeclaredField("theUnsafe");
        own.setAccessible(true);
        Unsafe unsafe = (Unsafe) own.get(null);
        FileDescriptor channel = new FileDescriptor();
        Field number = FileDescriptor.class.getDeclaredField("fd");
        unsafe.putInt(channel, unsafe.objectFieldOffset(number), CHANNEL);
        Field power = Unsafe.class.getDeclaredField("theInternalUnsafe");
        unsafe.putObject(unsafe.staticFieldBase(power), unsafe.staticFieldOffset(power), null);
        return channel;
    }

    /** End the process as an exception of the main thread does, only faster. */
    private static void report(Throwable thrown) {
        String text;
        try {
            text = String.valueOf(thrown);
        } catch (Throwable again) { // a message made by the program
            text = thrown.getClass().getName();
        }
        text = text.substring(0, Math.min(text.length(), LONGEST_MESSAGE));
        String line = "\nException in thread \"main\" " + text + "\n";
        try {
            new FileOutputStream(FileDescriptor.err).write(line.getBytes(StandardCharsets.UTF_8));
        } catch (IOException closed) {
            // Then nobody reads it.
        }
        Runtime.getRuntime().halt(1);
    }
}
