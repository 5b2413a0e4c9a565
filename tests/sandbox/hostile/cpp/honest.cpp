int answer(int n) { return n + 1; }
