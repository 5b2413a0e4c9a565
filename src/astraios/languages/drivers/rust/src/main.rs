//! Builds a program, and runs one that was built.
//!
//!     driver build COMPILER LINKER [OPTION ...]    main.rs -> program.so
//!     driver run                                   program.so against its tests
//!
//! Built programs are shared libraries, so nothing of them (constructors, symbols that would stand
//! in for others') is there before the token is read and put away; and linking one costs next to
//! nothing, as everything that it calls is in this process already.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};
use std::mem::ManuallyDrop;
use std::os::raw::{c_char, c_int, c_void};
use std::os::unix::io::FromRawFd;
use std::os::unix::process::CommandExt;
use std::process::{exit, Command, Stdio};

const SOURCE: &str = "main.rs";
const OBJECT: &str = "program.o";
const LIBRARY: &str = "program.so";
const LIBRARY_PATH: &CStr = unsafe { CStr::from_bytes_with_nul_unchecked(b"./program.so\0") };
/// Of the function that calls the tests; `rust.py` writes it into every program.
const ENTRY: &CStr = unsafe { CStr::from_bytes_with_nul_unchecked(b"astraios_tests\0") };

const CHANNEL: i32 = 3;
const TOKEN: usize = 16;
/// Exit status of a program that calls what is nowhere: for `rust.py` a compile error.
const UNRESOLVED: i32 = 95;
/// Exit status of the test harness of Rust when a test panics.
const PANICKED: i32 = 101;

#[link(name = "m")]
extern "C" {
    fn cbrt(x: f64) -> f64;
}

#[link(name = "dl")]
extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dlerror() -> *const c_char;
    fn mmap(
        at: *mut c_void,
        n: usize,
        access: c_int,
        kind: c_int,
        file: c_int,
        from: i64,
    ) -> *mut c_void;
    fn mprotect(at: *mut c_void, n: usize, access: c_int) -> c_int;
    fn _exit(status: c_int) -> !;
}

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_deref().and_then(|word| word.to_str()) {
        Some("build") => build(&arguments.collect::<Vec<_>>()),
        Some("run") => run(),
        _ => exit(2),
    }
}

/// The source is gone from the folder before the compiler begins, so that no program can include
/// its own tests as a text.
fn build(words: &[std::ffi::OsString]) {
    let [compiler, linker, options @ ..] = words else {
        exit(2)
    };
    let source = File::open(SOURCE).expect(SOURCE);
    std::fs::remove_file(SOURCE).expect(SOURCE);
    let compiled = Command::new(compiler)
        .args(options)
        .args(["--emit=obj", "-o", OBJECT, "-"])
        .stdin(Stdio::from(source))
        .status()
        .expect("the compiler");
    if !compiled.success() {
        exit(compiled.code().unwrap_or(PANICKED));
    }
    let linking = [
        "-shared",
        "--eh-frame-hdr",
        "-z",
        "noexecstack",
        "-o",
        LIBRARY,
        OBJECT,
    ];
    let problem = Command::new(linker).args(linking).exec();
    panic!("the linker: {problem}");
}

fn run() {
    // Programs are linked to nothing: what they may call is loaded by being called here.
    rand::keep();
    std::hint::black_box(cbrt as unsafe extern "C" fn(f64) -> f64);
    let channel = ManuallyDrop::new(unsafe { File::from_raw_fd(CHANNEL) });
    let mut told = [0; TOKEN + 1];
    if (&*channel).read_exact(&mut told).is_err() {
        exit(2);
    }
    let impossible = told[TOKEN] != 0;
    let token = Hidden::new(&told[..TOKEN]);
    told.fill(0);
    std::hint::black_box(&mut told);

    let tests = load();
    let thread = std::thread::Builder::new().name("tests".into());
    // In a thread of its own, as the test harness of Rust does it: with its smaller stack.
    let ended = thread
        .spawn(move || tests(impossible))
        .expect("a thread")
        .join();
    if ended.is_err() {
        unsafe { _exit(PANICKED) }
    }
    let mut verdict = [0; TOKEN + 5];
    token.copy_to(&mut verdict);
    let told = (&*channel).write_all(&verdict).is_ok();
    unsafe { _exit(c_int::from(!told)) }
}

fn load() -> fn(bool) {
    const NOW: c_int = 2;
    unsafe {
        let library = dlopen(LIBRARY_PATH.as_ptr(), NOW);
        let entry = if library.is_null() {
            library
        } else {
            dlsym(library, ENTRY.as_ptr())
        };
        if entry.is_null() {
            eprintln!("error: {}", CStr::from_ptr(dlerror()).to_string_lossy());
            _exit(UNRESOLVED);
        }
        std::mem::transmute::<*mut c_void, fn(bool)>(entry)
    }
}

/// The token while the program runs: where nothing points to in clear, and nobody may read.
struct Hidden {
    masked: usize,
    mask: usize,
}

const PAGE: usize = 4096;

impl Hidden {
    fn new(token: &[u8]) -> Hidden {
        const PRIVATE_ANONYMOUS: c_int = 0x22;
        let mut mask = [0; std::mem::size_of::<usize>()];
        File::open("/dev/urandom")
            .and_then(|mut f| f.read_exact(&mut mask))
            .expect("urandom");
        let mask = usize::from_ne_bytes(mask);
        unsafe {
            let page = mmap(std::ptr::null_mut(), PAGE, 3, PRIVATE_ANONYMOUS, -1, 0);
            if page as isize == -1 {
                exit(2);
            }
            std::ptr::copy_nonoverlapping(token.as_ptr(), page.cast(), token.len());
            mprotect(page, PAGE, 0);
            Hidden {
                masked: page as usize ^ mask,
                mask,
            }
        }
    }

    fn copy_to(&self, verdict: &mut [u8]) {
        let page = (self.masked ^ self.mask) as *mut c_void;
        unsafe {
            mprotect(page, PAGE, 1);
            std::ptr::copy_nonoverlapping(page.cast(), verdict.as_mut_ptr(), TOKEN);
        }
    }
}
