/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every guest stands on: ports, memory-mapped registers, text on the serial
 * port, checks, and an end.
 *
 * A guest is a function guest_main(). It checks things, each with a line "ok:
 * ..." or "FAILED: ...", and returns; the runtime counts, and ends the machine
 * through port 0xF4 with status 33 (all was well) or 35 (something was not). It
 * is one CPU, one stack and no memory allocator; interrupts are off until it
 * wants them.
 */
#ifndef LIB_GUEST_H
#define LIB_GUEST_H

#include "board/layout.h"
#include "host/types.h"
#include "lib/entry.h"

/* The registers as the loader left them; entry-*.S and start.S know this layout. */
struct entry {
	u32 how; /* ENTERED_BY_... */
	u32 eax, ebx, esi, edi, ebp;
	u32 cr0, cr4, eflags;
	u16 cs, ds, es, ss;
};

/* What the loader told us, whichever way it did. */
struct boot {
	const struct entry *entry;
	const void *info;	  /* start_info, multiboot information or boot_params */
	const char *loader_name;  /* "PVH", ... */
	const char *command_line; /* "" if none */
	const u8 *initrd;
	u64 initrd_size; /* 0: none */
	u64 rsdp;	 /* 0: not said */
	unsigned map_count;
	struct range {
		u64 base, size;
		u32 type; /* as in e820: 1 is RAM */
	} map[32];
};

#define RANGE_RAM 1

/* The guest itself. */
void guest_main(const struct boot *boot);

/* Called from start.S and trampoline.S. */
void guest_start(const struct entry *entry);
void ap_main(void);

/* boot.c: understand what the loader left. */
void boot_read(struct boot *boot, const struct entry *entry);

/*
 * The value of "name=..." on the command line, copied; false if it is not there. A bare "name" has
 * the value "".
 */
bool boot_option(const struct boot *boot, const char *name, char *value, size_t len);

/* Where RAM below 4 GiB ends. */
u64 boot_ram_end(const struct boot *boot);

static inline u8 in8(u16 port)
{
	u8 value;

	asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline u16 in16(u16 port)
{
	u16 value;

	asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline u32 in32(u16 port)
{
	u32 value;

	asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline void out8(u16 port, u8 value)
{
	asm volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void out16(u16 port, u16 value)
{
	asm volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void out32(u16 port, u32 value)
{
	asm volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

/*
 * Device registers: one instruction of exactly that width, which a volatile pointer would promise
 * as well, and in the one form that every emulator understands.
 */
#define MMIO_ACCESS(bits, suffix, constraint)                                                      \
	static inline u##bits read##bits(u64 address)                                              \
	{                                                                                          \
		u##bits value;                                                                     \
		asm volatile("mov" suffix " (%1), %0"                                              \
			     : constraint(value)                                                   \
			     : "r"(address)                                                        \
			     : "memory");                                                          \
		return value;                                                                      \
	}                                                                                          \
	static inline void write##bits(u64 address, u##bits value)                                 \
	{                                                                                          \
		asm volatile("mov" suffix " %0, (%1)" : : "r"(value), "r"(address) : "memory");    \
	}
MMIO_ACCESS(8, "b", "=r")
MMIO_ACCESS(16, "w", "=r")
MMIO_ACCESS(32, "l", "=r")
MMIO_ACCESS(64, "q", "=r")

static inline u64 rdmsr(u32 msr)
{
	u32 low, high;

	asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return (u64)high << 32 | low;
}

static inline void wrmsr(u32 msr, u64 value)
{
	asm volatile("wrmsr" : : "a"((u32)value), "d"((u32)(value >> 32)), "c"(msr) : "memory");
}

static inline u64 rdtsc(void)
{
	u32 low, high;

	asm volatile("rdtsc" : "=a"(low), "=d"(high));
	return (u64)high << 32 | low;
}

static inline void barrier(void)
{
	asm volatile("" : : : "memory");
}

static inline void pause(void)
{
	asm volatile("pause" : : : "memory");
}

/* What gcc calls for on its own, and the rest that text wants. */
void *memset(void *to, int value, size_t len);
void *memcpy(void *to, const void *from, size_t len);
int memcmp(const void *a, const void *b, size_t len);
size_t strlen(const char *text);
int strcmp(const char *a, const char *b);
bool starts_with(const char *text, const char *prefix);

/*
 * The serial port, by polling. Its FIFOs are on: a guest that plays with it switches them on again
 * before it goes on printing.
 */
void serial_put(char c);
bool serial_ready(void); /* a byte of input waits */
u8 serial_get(void);	 /* waits for one */

/* %s %c %d %u %x, with l (or ll) and a width, zero-padded if it begins with 0. */
void print(const char *format, ...) PRINTF(1, 2);

/*
 * One thing that must be so, with a line that says so. Returns `ok`, for those who need not go on
 * without it.
 */
bool check(bool ok, const char *format, ...) PRINTF(2, 3);

/* check() that a == b, telling both if not. */
bool check_equal(u64 is, u64 wanted, const char *format, ...) PRINTF(3, 4);

/* The end: all checks were well, or it makes no sense to go on. */
__attribute__((noreturn)) void finish(void);
__attribute__((noreturn)) void give_up(const char *format, ...) PRINTF(1, 2);

/*
 * Wait until `condition`, for as long as a loaded emulator inside another may need; then false. It
 * is a bound for broken hypervisors, and no test depends on how long it is.
 */
#define PATIENCE 60000000000ull /* cycles of the time stamp counter */
#define wait_for(condition)                                                                        \
	({                                                                                         \
		u64 started_ = rdtsc();                                                            \
		bool happened_;                                                                    \
		while (!(happened_ = (condition)) && rdtsc() - started_ < PATIENCE)                \
			pause();                                                                   \
		happened_;                                                                         \
	})

/* Let some time pass in which a thing that must not happen could: some exits to the hypervisor. */
void linger(void);

#endif
