import java.math.BigInteger;
import java.security.MessageDigest;
import java.util.*;
import java.util.function.*;
import java.util.regex.*;
import java.util.stream.*;

/** Uses of the library that are common in short programs: what it loads comes out of an archive. */
public class Main {
    interface Shape {
        double area();
    }

    static class Pair<A, B> {
        final A first;
        final B second;

        Pair(A first, B second) {
            this.first = first;
            this.second = second;
        }
    }

    enum Kind { EVEN, ODD }

    static void collections() {
        List<Integer> numbers = new ArrayList<>(Arrays.asList(3, 1, 2));
        Collections.sort(numbers);
        Collections.reverse(numbers);
        numbers.sort(Comparator.comparing((Integer n) -> -n).thenComparing(n -> n));
        numbers.removeIf(n -> n > 5);
        numbers.forEach(n -> Integer.toString(n));
        Map<String, Integer> counts = new HashMap<>(new LinkedHashMap<>(new TreeMap<>()));
        counts.merge("a", 1, Integer::sum);
        counts.put("b", counts.getOrDefault("b", 0) + 1);
        counts.computeIfAbsent("c", key -> 0);
        for (Map.Entry<String, Integer> one : counts.entrySet()) {
            one.getKey();
        }
        Set<Integer> set = new HashSet<>(new TreeSet<>(new LinkedHashSet<>(numbers)));
        set.retainAll(numbers);
        Deque<Character> stack = new ArrayDeque<>(new LinkedList<>());
        stack.push('a');
        Stack<Character> old = new Stack<>();
        old.push('a');
        PriorityQueue<Integer> queue = new PriorityQueue<>(Collections.reverseOrder());
        queue.addAll(numbers);
        Objects.equals(List.of(), List.of(1, 2, 3));
        Map.of("a", 1).equals(Map.of());
        numbers.subList(0, 2).iterator().next();
        Optional.of(1).map(n -> n + 1).orElse(2);
        new Pair<>(Kind.EVEN, Kind.values()).second.toString();
        int[] array = {3, 1, 2};
        Arrays.sort(array);
        Arrays.fill(Arrays.copyOf(array, 5), 1);
        Arrays.toString(array).equals(numbers.toString());
        Integer[] boxed = {3, 1, 2};
        Arrays.sort(boxed, (a, b) -> b - a);
        numbers.toArray(new Integer[0]);
    }

    static void streams() {
        List<String> words = Arrays.asList("one", "two", "three");
        words.stream().filter(w -> w.length() > 3).map(String::length).collect(Collectors.toList());
        words.stream().mapToInt(String::length).max().getAsInt();
        words.stream().sorted(Comparator.comparing(String::length)).collect(Collectors.joining(","));
        words.stream().collect(Collectors.groupingBy(w -> w, Collectors.counting())).size();
        words.stream().allMatch(w -> w.isEmpty());
        words.stream().reduce("", (a, b) -> a + b);
        words.stream().distinct().limit(2).toArray(String[]::new);
        IntStream.rangeClosed(1, 3).boxed().map(n -> n * n).collect(Collectors.toSet());
        IntStream.range(0, 3).mapToObj(n -> "" + n).forEach(n -> n.length());
        "text".chars().mapToObj(c -> (char) c).filter(Character::isLetter).count();
        Arrays.stream(new int[] {1, 2}).sum();
        BiFunction<Integer, Integer, Integer> add = (a, b) -> a + b;
        Supplier<Integer> three = () -> add.apply(1, 2);
        Predicate<Integer> odd = n -> n % 2 == 1;
        Shape shape = () -> three.get() * 2.0;
        odd.test((int) shape.area());
    }

    static void texts() throws Exception {
        StringBuilder text = new StringBuilder("abc").reverse().append(1).append('c').insert(0, "x");
        text.setCharAt(0, 'y');
        text.deleteCharAt(0).toString().toUpperCase().toLowerCase().trim();
        "a,b c".split(",")[0].replace("a", "b").replaceAll("[aeiou]", "").indexOf("b");
        String.join(" ", "a b".split("\\s+")).contains("a");
        String.format("%d %s %.2f %x", 1, "a", 1.5, 255);
        String.valueOf(Double.parseDouble("1.5") + Integer.parseInt("7") + Math.sqrt(2));
        Integer.toBinaryString(5).equals(Integer.toString(5, 2));
        Matcher found = Pattern.compile("(\\d+)-(\\w+)").matcher("12-ab");
        found.find();
        found.group(1);
        Character.isUpperCase('a');
        new BigInteger("12").pow(5).mod(BigInteger.TEN).toString();
        byte[] digest = MessageDigest.getInstance("MD5").digest("text".getBytes("UTF-8"));
        new BigInteger(1, digest).toString(16);
        new Scanner("1 2").nextInt();
        System.out.println(text + " " + digest.length);
        new Random(42).nextInt(10);
    }

    public static void main(String[] arguments) throws Exception {
        collections();
        streams();
        texts();
        try {
            throw new IllegalArgumentException("no");
        } catch (IllegalArgumentException wrong) {
            wrong.getMessage();
        }
        if (Arrays.asList(true, true).contains(false)) {
            throw new AssertionError();
        }
    }
}
