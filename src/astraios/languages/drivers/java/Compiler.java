package astraios;

import com.sun.management.OperatingSystemMXBean;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;

/**
 * A Java compiler that stays: sources in on descriptor 0, classes out on descriptor 1.
 *
 * All classes of a program go into one file, which the driver reads.
 */
public final class Compiler {
    private static final int MADE = 0;
    private static final int REFUSED = 1;
    private static final String FILE = "program";
    private static final long LOOKS_MS = 2000;

    /** How many programs were taken up, and whether one is being compiled. */
    private static volatile int begun;
    private static volatile boolean busy;

    public static void main(String[] arguments) throws IOException {
        watch((long) (Double.parseDouble(arguments[0]) * 1e9));
        DataInputStream in = new DataInputStream(new FileInputStream(FileDescriptor.in));
        FileOutputStream out = new FileOutputStream(FileDescriptor.out);
        Units units = new Units();
        try {
            while (true) {
                byte[] source = new byte[in.readInt()];
                in.readFully(source);
                begun++;
                busy = true;
                byte[] answer = answer(units, source);
                busy = false;
                out.write(answer);
            }
        } catch (EOFException end) {
            return;
        }
    }

    private static byte[] answer(Units units, byte[] source) throws IOException {
        String text;
        try {
            text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(source)).toString();
        } catch (CharacterCodingException malformed) {
            return frame(REFUSED, "Main.java: error: not UTF-8 text".getBytes());
        }
        Units.Made made = units.compile(text);
        if (made.problem != null) {
            return frame(REFUSED, made.problem.getBytes(StandardCharsets.UTF_8));
        }
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        DataOutputStream body = new DataOutputStream(bytes);
        byte[] name = FILE.getBytes();
        body.writeShort(name.length);
        body.write(name);
        body.writeInt(made.content.length);
        body.write(made.content);
        return frame(MADE, bytes.toByteArray());
    }

    private static byte[] frame(int kind, byte[] body) {
        return ByteBuffer.allocate(5 + body.length)
                .putInt(1 + body.length)
                .put((byte) kind)
                .put(body)
                .array();
    }

    /**
     * End this process if one program takes more than its CPU time, the time to make room for it in
     * memory included: nobody gets an answer then. The server cannot see this process.
     */
    private static void watch(long limitNs) {
        Thread watch = new Thread(() -> {
            int last = 0;
            long since = 0;
            while (true) {
                try {
                    Thread.sleep(LOOKS_MS);
                } catch (InterruptedException never) {
                    return;
                }
                if (!busy) {
                    continue;
                }
                // Loaded only for a program that takes long: it costs as much as ten compilations.
                if (begun != last) {
                    last = begun;
                    since = -1;
                    continue;
                }
                OperatingSystemMXBean system =
                        (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
                long used = system.getProcessCpuTime();
                since = since < 0 ? used : since;
                if (used - since > limitNs) {
                    Runtime.getRuntime().halt(1);
                }
            }
        });
        watch.setDaemon(true);
        watch.start();
    }
}
