import java.util.*;

class Solution {
    public int answer(int n) { return n + 1; }
}
