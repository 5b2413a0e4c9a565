# Compiles and links main.go. Arguments: what was made once, what was shipped with the compiler, and
# where compiler and linker are.
# The stand-ins of `plain` do unless the tests (by the first line) or the candidate need more.
made=$1 shipped=$2 tools=$3
export GOGC=800 GOMAXPROCS=1

compile() {
    "$tools/compile" -p main -complete -nolocalimports -c=1 -dwarf=false -o main.o \
        -I "$made/$1" -I "$made/std" -I "$shipped" "$made/begin.go" main.go 2>&1
}

read -r first < main.go
kind=plain
case $first in
    *full*) kind=full ;;
esac
if ! said=$(compile $kind); then
    case $kind$said in
        plain*[!.]testing.* | plain*assert.* | plain*stretchr*) ;;
        *) printf '%s\n' "$said"; exit 1 ;;
    esac
    kind=full
    said=$(compile $kind) || { printf '%s\n' "$said"; exit 1; }
fi
exec "$tools/link" -s -w -buildid= -linkmode=internal -o main \
    -L "$made/$kind" -L "$made/std" -L "$shipped" main.o
