/* Runs a program of C++: main.so, which holds candidate and tests.
 *
 * The token is read before any code of the program is loaded, and is kept on a page of its own at a
 * random place that nothing can read while the program runs: what looks through memory for it ends
 * with a fault. The program's own memory is all that a program in the same process can be denied.
 *
 * main.so was linked without the libraries it uses, which saves most of the linker's work: what it
 * needs of them is found here, by name. OpenSSL is loaded only for what has not been found.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

enum { CHANNEL = 3, TOKEN = 16, ASKED = TOKEN + 1, VERDICT = TOKEN + 5, PAGE = 65536 };
enum { NOT_ASKED = 3, NOT_LINKED = 127 };

typedef int (*Tests)(int is_control);

static unsigned char *hidden_page(void) {
    uint64_t place = 0;
    if (getrandom(&place, sizeof place, 0) != sizeof place) return MAP_FAILED;
    place = (place & 0x3fffffff0000) | 0x100000000000;
    return mmap((void *)(uintptr_t)place, PAGE, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static int ask(unsigned char *answer) {
    for (int n = 0; n < ASKED;) {
        ssize_t part = read(CHANNEL, answer + n, ASKED - n);
        if (part <= 0) return 0;
        n += (int)part;
    }
    return 1;
}

static void *load(void) {
    void *program = dlopen("./main.so", RTLD_NOW | RTLD_LOCAL);
    if (program == NULL && strstr(dlerror(), "undefined symbol") != NULL) {
        dlopen("libcrypto.so", RTLD_LAZY | RTLD_GLOBAL);
        dlopen("libssl.so", RTLD_LAZY | RTLD_GLOBAL);
        program = dlopen("./main.so", RTLD_NOW | RTLD_LOCAL);
    }
    return program;
}

int main(void) {
    unsigned char *page = hidden_page();
    if (page == MAP_FAILED || !ask(page)) _exit(NOT_ASKED);
    int is_control = page[TOKEN];
    memset(page + TOKEN, 0, VERDICT - TOKEN);
    mprotect(page, PAGE, PROT_NONE);

    void *program = load();
    Tests tests = program != NULL ? (Tests)dlsym(program, "astraios_tests") : NULL;
    if (tests == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        _exit(NOT_LINKED);
    }
    int status = tests(is_control);
    if (status == 0) {
        mprotect(page, PAGE, PROT_READ);
        if (write(CHANNEL, page, VERDICT) != VERDICT) status = NOT_ASKED;
        munmap(page, PAGE);
    }
    return status;
}
