func TestAnswer(t *testing.T) {
    assert := assert.New(t)
    assert.Equal(3, Answer(2))
    assert.Equal(true, Answer(41) == 42)
    assert.Equal(0, Answer(-1))
}
