/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The beginning and the end of a guest, and what lies between: checks, text,
 * and the handful of library functions that gcc expects of anybody.
 */
#include "lib/guest.h"

#include <stdarg.h>

#include <linux/serial_reg.h>

#define SERIAL_FIFO 16 /* bytes that the port takes at once when its transmitter is empty */

/* A millisecond or so, and time for a hypervisor to look up from its work. */
#define LINGER_EXITS  50
#define LINGER_CYCLES 3000000

/*
 * The one piece of state that all of a guest shares: how its checks went, and what it is about to
 * say.
 */
static struct {
	unsigned done, failed;
} checks;

static struct {
	char text[256];
	unsigned len;
} line;

void guest_start(const struct entry *entry)
{
	static struct boot boot;

	out8(PORT_SERIAL + UART_FCR, UART_FCR_ENABLE_FIFO);
	boot_read(&boot, entry);
	guest_main(&boot);
	finish();
}

static __attribute__((noreturn)) void leave(u8 code)
{
	out8(PORT_DEBUG_EXIT, code);
	/* Still here: the launcher was not asked to listen to that port. Say so and go quietly. */
	print("port %x did not end the machine: this guest wants --debug-exit\n", PORT_DEBUG_EXIT);
	out8(PORT_ACPI_CONTROL, SLEEP_S5);
	for (;;)
		asm volatile("cli; hlt");
}

void finish(void)
{
	print("%u checks, %u failed\n", checks.done, checks.failed);
	leave(checks.failed ? EXIT_FAILURE : EXIT_SUCCESS);
}

void linger(void)
{
	u64 started = rdtsc();

	for (unsigned exits = 0; exits < LINGER_EXITS || rdtsc() - started < LINGER_CYCLES; exits++)
		in8(PORT_SERIAL + UART_SCR);
}

void serial_put(char c)
{
	while (!(in8(PORT_SERIAL + UART_LSR) & UART_LSR_THRE))
		pause();
	out8(PORT_SERIAL + UART_TX, c);
}

/* Where each access to a port is a journey to the hypervisor, text travels in groups. */
static void flush(void)
{
	const char *from = line.text;

	while (line.len) {
		unsigned long count = MIN(line.len, SERIAL_FIFO);

		line.len -= count;
		while (!(in8(PORT_SERIAL + UART_LSR) & UART_LSR_THRE))
			pause();
		asm volatile("rep outsb"
			     : "+S"(from), "+c"(count)
			     : "d"((u16)PORT_SERIAL)
			     : "memory");
	}
}

static void put(char c)
{
	line.text[line.len++] = c;
	if (c == '\n' || line.len == sizeof(line.text))
		flush();
}

bool serial_ready(void)
{
	return in8(PORT_SERIAL + UART_LSR) & UART_LSR_DR;
}

u8 serial_get(void)
{
	while (!serial_ready())
		pause();
	return in8(PORT_SERIAL + UART_RX);
}

/* A digit, and what is left: in steps that guests of 32 bits can take without a library. */
static unsigned divide(u64 *value, unsigned base)
{
	u32 high = *value >> 32, low = *value, rest = high % base;

	asm("divl %2" : "+a"(low), "+d"(rest) : "r"(base) : "cc");
	*value = (u64)(high / base) << 32 | low;
	return rest;
}

static void print_number(u64 value, unsigned base, unsigned width, char fill, bool negative)
{
	char digits[24];
	unsigned count = 0;

	do
		digits[count++] = "0123456789abcdef"[divide(&value, base)];
	while (value);
	if (negative)
		digits[count++] = '-';
	while (count < width && count < sizeof(digits))
		digits[count++] = fill;
	while (count)
		put(digits[--count]);
}

static void print_text(const char *text)
{
	while (*text)
		put(*text++);
}

static void print_list(const char *format, va_list list)
{
	for (; *format; format++) {
		unsigned width = 0, longs = 0;
		bool wide;
		char fill = ' ';
		s64 value;

		if (*format != '%') {
			put(*format);
			continue;
		}
		if (*++format == '0')
			fill = *format++;
		for (; *format >= '0' && *format <= '9'; format++)
			width = width * 10 + (unsigned)(*format - '0');
		for (; *format == 'l'; format++)
			longs++;
		wide = longs * sizeof(long) >= sizeof(u64);
		switch (*format) {
		case 's':
			print_text(va_arg(list, const char *));
			break;
		case 'c':
			put((char)va_arg(list, int));
			break;
		case 'd':
			value = wide ? va_arg(list, s64) : va_arg(list, int);
			print_number((u64)(value < 0 ? -value : value), 10, width, fill, value < 0);
			break;
		case 'u':
		case 'x':
			print_number(wide ? va_arg(list, u64) : va_arg(list, unsigned),
				     *format == 'x' ? 16 : 10, width, fill, false);
			break;
		default:
			put(*format);
		}
	}
}

void print(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	print_list(format, list);
	va_end(list);
	flush();
}

static void count_check(bool ok)
{
	checks.done++;
	checks.failed += !ok;
	print_text(ok ? "ok: " : "FAILED: ");
}

bool check(bool ok, const char *format, ...)
{
	va_list list;

	count_check(ok);
	va_start(list, format);
	print_list(format, list);
	va_end(list);
	put('\n');
	return ok;
}

bool check_equal(u64 is, u64 wanted, const char *format, ...)
{
	va_list list;

	count_check(is == wanted);
	va_start(list, format);
	print_list(format, list);
	va_end(list);
	if (is != wanted)
		print(" (is 0x%llx, should be 0x%llx)", (unsigned long long)is,
		      (unsigned long long)wanted);
	put('\n');
	return is == wanted;
}

void give_up(const char *format, ...)
{
	va_list list;

	count_check(false);
	va_start(list, format);
	print_list(format, list);
	va_end(list);
	put('\n');
	leave(EXIT_FAILURE);
}

void *memset(void *to, int value, size_t len)
{
	void *result = to;

	asm volatile("rep stosb" : "+D"(to), "+c"(len) : "a"(value) : "memory");
	return result;
}

void *memcpy(void *to, const void *from, size_t len)
{
	void *result = to;

	asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(len) : : "memory");
	return result;
}

int memcmp(const void *a, const void *b, size_t len)
{
	const u8 *left = a, *right = b;

	for (size_t i = 0; i < len; i++)
		if (left[i] != right[i])
			return left[i] - right[i];
	return 0;
}

size_t strlen(const char *text)
{
	size_t len = 0;

	while (text[len])
		len++;
	return len;
}

int strcmp(const char *a, const char *b)
{
	for (; *a && *a == *b; a++, b++)
		;
	return (u8)*a - (u8)*b;
}

bool starts_with(const char *text, const char *prefix)
{
	return strlen(text) >= strlen(prefix) && memcmp(text, prefix, strlen(prefix)) == 0;
}
