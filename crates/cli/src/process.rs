//! What the standard library does not offer about processes: children that cannot outlive their
//! parent, signals, and the CPU time that was used.
//!
//! All unsafe code of the program is here; each call is one of the C library without pointers to
//! memory that outlives it.
#![expect(unsafe_code, reason = "calls of the C library that no safe crate of the house wraps")]

use std::{io, mem::MaybeUninit, time::Duration};

use tokio::process::Command;

/// Lets the child be killed when this thread ends, for whatever reason, SIGKILL included.
///
/// The kernel sends the signal when the *thread* that started the child ends, so the child must be
/// started by a thread that lives as long as the process. Elsewhere than on Linux there is no such
/// thing, and the child outlives a parent that was killed with SIGKILL.
pub(crate) fn die_with_parent(command: &mut Command) {
    #[cfg(target_os = "linux")]
    {
        let parent = i32::try_from(std::process::id()).expect("a process id is a small number");
        let set_up = move || {
            // SAFETY: both calls are async-signal-safe and take numbers only.
            let (set, present_parent) =
                unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL), libc::getppid()) };
            if set != 0 {
                return Err(io::Error::last_os_error());
            }
            // A parent that ended before the call above sends no signal any more.
            if present_parent != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure only makes async-signal-safe calls and
        // allocates nothing.
        unsafe { command.pre_exec(set_up) };
    }
    #[cfg(not(target_os = "linux"))]
    let _no_such_signal = command;
}

/// Keeps the kernel from backing this process's memory with huge pages.
///
/// An allocator asks for them, and then a region of which a few kilobytes are used takes two
/// megabytes: a node that holds a million small keys was half as large again. Elsewhere than on
/// Linux, and where the kernel does not offer it, nothing changes.
pub(crate) fn use_small_pages() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the call takes numbers only and changes what later page faults do.
        let _unsupported = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    }
}

/// What a process is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGTERM: end in good order.
    Terminate,
    /// SIGKILL: end now.
    Kill,
    /// SIGSTOP: stand still.
    Stop,
    /// SIGCONT: go on.
    Continue,
}

/// Sends a signal to a process.
pub(crate) fn send_signal(pid: u32, signal: Signal) -> io::Result<()> {
    let number = match signal {
        Signal::Terminate => libc::SIGTERM,
        Signal::Kill => libc::SIGKILL,
        Signal::Stop => libc::SIGSTOP,
        Signal::Continue => libc::SIGCONT,
    };
    // 0 and negative numbers would mean whole groups of processes.
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: the call takes numbers only.
    match unsafe { libc::kill(pid, number) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// CPU time that this process has used, in user and kernel mode together.
pub(crate) fn cpu_time() -> Duration {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is a valid place for the answer, and all zeroes are a valid `rusage`.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    duration(usage.ru_utime) + duration(usage.ru_stime)
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_grows_with_work() {
        let before = cpu_time();
        let mut sum = 0_u64;
        while cpu_time() <= before + Duration::from_millis(20) {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
    }

    #[test]
    fn no_signal_goes_to_a_group_of_processes() {
        for pid in [0, u32::MAX] {
            let error = send_signal(pid, Signal::Terminate).expect_err("no process");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
