package astraios;

import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;

/**
 * A Java compiler that stays: sources in on descriptor 0, classes out on descriptor 1.
 *
 * All classes of a program go into one file, which the driver reads. Who asks ends this process if
 * it takes too long over one.
 */
public final class Compiler {
    private static final int MADE = 0;
    private static final int REFUSED = 1;
    private static final String FILE = "program";

    public static void main(String[] arguments) throws IOException {
        DataInputStream in = new DataInputStream(new FileInputStream(FileDescriptor.in));
        FileOutputStream out = new FileOutputStream(FileDescriptor.out);
        Units units = new Units();
        try {
            while (true) {
                byte[] source = new byte[in.readInt()];
                in.readFully(source);
                out.write(answer(units, source));
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
}
