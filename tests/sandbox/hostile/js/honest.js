const answer = (n) => {
  return n + 1
}
