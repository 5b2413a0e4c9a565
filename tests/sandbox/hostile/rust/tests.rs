#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_answer() {
        assert_eq!(answer(2), 3);
        assert!(answer(41) == 42);
        assert_eq!(answer(-1), 0);
    }
}
