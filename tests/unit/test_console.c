/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio console (virtio/console.c) between a driver and a terminal, which
 * is a pair of pipes here, or a pty. The test plays the main thread: it
 * carries bytes between the terminal's rings and the descriptors.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_guest.h"
#include "framing.h"
#include "virtio/console.h"

#include <linux/virtio_console.h>
#include <poll.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECEIVE	   0
#define TRANSMIT   1
#define SIZE	   (1ull << VIRTIO_CONSOLE_F_SIZE)
#define EMERGENCY  (1ull << VIRTIO_CONSOLE_F_EMERG_WRITE)
#define RING_RESET (1ull << VIRTIO_F_RING_RESET)
#define COLS	   (REGISTERS_DEVICE + offsetof(struct virtio_console_config, cols))
#define ROWS	   (REGISTERS_DEVICE + offsetof(struct virtio_console_config, rows))
#define EMERG_WR   (REGISTERS_DEVICE + offsetof(struct virtio_console_config, emerg_wr))

struct fixture {
	struct fake_guest guest;
	struct terminal terminal;
	struct console console;
	int saved[2]; /* our own standard input and output */
	int keyboard; /* what is written here is typed */
	int screen;   /* what can be read here was printed */
};

static void new_fixture(struct fixture *f, int input, int output, bool takes_input)
{
	struct problem why;

	for (int fd = 0; fd < 2; fd++)
		f->saved[fd] = dup(fd);
	dup2(input, STDIN_FILENO);
	dup2(output, STDOUT_FILENO);
	close(input);
	close(output);
	fake_guest_init(&f->guest, false);
	assert_int_equal(terminal_init(&f->terminal, &f->guest.machine), 0);
	assert_int_equal(console_init(&f->console, &f->guest.pci, FAKE_GUEST_SLOT,
				      &f->guest.machine, f->guest.memory, &f->terminal, takes_input,
				      &why),
			 0);
	fake_guest_power_on(&f->guest);
}

static int setup_pipes(void **state, bool takes_input)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int input[2], output[2];

	assert_non_null(f);
	fflush(stdout);
	assert_int_equal(pipe(input), 0);
	assert_int_equal(pipe(output), 0);
	f->keyboard = input[1];
	f->screen = output[0];
	new_fixture(f, input[0], output[1], takes_input);
	*state = f;
	return 0;
}

static int setup(void **state)
{
	return setup_pipes(state, false);
}

static int setup_taking(void **state)
{
	return setup_pipes(state, true);
}

static int setup_pty(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct winsize size = {.ws_col = 80, .ws_row = 25};
	int slave;

	assert_non_null(f);
	fflush(stdout);
	assert_int_equal(openpty(&f->keyboard, &slave, NULL, NULL, &size), 0);
	f->screen = dup(f->keyboard);
	new_fixture(f, slave, dup(slave), false);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	virtio_power_on(&f->console.virtio);
	fake_guest_destroy_board(&f->guest);
	virtio_unplug(&f->console.virtio);
	terminal_destroy(&f->terminal);
	for (int fd = 0; fd < 2; fd++) {
		dup2(f->saved[fd], fd);
		close(f->saved[fd]);
	}
	close(f->keyboard);
	close(f->screen);
	fake_guest_destroy(&f->guest);
	free(f);
	return 0;
}

static void type(struct fixture *f, const char *text)
{
	assert_int_equal(write(f->keyboard, text, strlen(text)), strlen(text));
	terminal_read_ready(&f->terminal);
}

static void assert_printed(struct fixture *f, const char *text, size_t len)
{
	char printed[4096];
	size_t n = 0;

	assert_true(len <= sizeof(printed));
	terminal_flush(&f->terminal, -1, 0);
	while (n < len) {
		ssize_t more = read(f->screen, printed + n, sizeof(printed) - n);

		assert_true(more > 0);
		n += more;
	}
	assert_int_equal(n, len);
	assert_memory_equal(printed, text, len);
}

static void assert_nothing_printed(struct fixture *f)
{
	struct pollfd screen = {.fd = f->screen, .events = POLLIN};

	terminal_flush(&f->terminal, -1, 0);
	assert_int_equal(poll(&screen, 1, 0), 0);
}

static void add_room(struct fixture *f, u32 len)
{
	struct fake_buffer buffer = fake_writable(&f->guest.queues[RECEIVE], len);

	assert_true(fake_driver_add(&f->guest.queues[RECEIVE], &buffer, 1) >= 0);
}

/* The next used receive buffer holds this. */
static void assert_received(struct fixture *f, const char *text)
{
	struct fake_driver *driver = &f->guest.queues[RECEIVE];
	u16 head;

	assert_int_equal(await_used(&f->guest, RECEIVE, &head), strlen(text));
	assert_memory_equal(fake_driver_at(driver, driver->desc[head].addr, strlen(text)), text,
			    strlen(text));
}

static void say(struct fixture *f, const char *text)
{
	struct fake_buffer buffer = fake_readable(&f->guest.queues[TRANSMIT], text, strlen(text));
	u16 head;

	assert_true(fake_driver_add(&f->guest.queues[TRANSMIT], &buffer, 1) >= 0);
	submit(&f->guest, TRANSMIT);
	assert_int_equal(await_used(&f->guest, TRANSMIT, &head), 0);
}

static enum input_console input_owner(struct fixture *f)
{
	enum input_console owner;

	pthread_mutex_lock(&f->terminal.lock);
	owner = f->terminal.owner;
	pthread_mutex_unlock(&f->terminal.lock);
	return owner;
}

static void test_identity(void **state)
{
	struct fixture *f = *state;
	struct pci_device *device = fake_guest_device(&f->guest);

	assert_int_equal(pci_config_read(device, PCI_DEVICE_ID, 2), 0x1043);
	assert_int_equal(pci_config_read(device, PCI_CLASS_DEVICE, 2), 0x0780);
	bring_up(&f->guest, STAGE_DRIVER, 0);
	assert_int_equal(offered_features(&f->guest) & 7, EMERGENCY);
	assert_int_equal(common_get(&f->guest, VIRTIO_PCI_COMMON_NUMQ), 2);
}

/* Output */

static void test_output(void **state)
{
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	say(f, "Hello, ");
	say(f, "world\n");
	assert_printed(f, "Hello, world\n", 13);
}

/* VQ-10 */

static bool came_out(void *opaque, const u8 *written, u32 used)
{
	(void)written;
	assert_printed(opaque, "said once", 9);
	return used == 0;
}

static void test_output_however_cut(void **state)
{
	struct fixture *f = *state;
	const struct framing framing = {
		.queue = TRANSMIT,
		.readable = "said once",
		.readable_len = 9,
		.check = came_out,
		.opaque = f,
	};

	/* 219 ways to cut 9 bytes into up to 6 pieces; three forms and two, but one piece is whole.
	 */
	assert_int_equal(frame_every_way(&f->guest, &framing), 219 * 5 - 1);
	assert_nothing_printed(f);
}

/* An empty buffer is no end. */
static void test_output_with_empty_buffers(void **state)
{
	struct fixture *f = *state;
	struct fake_driver *driver = &f->guest.queues[TRANSMIT];
	struct fake_buffer buffers[3];
	u16 head;

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	buffers[0] = fake_readable(driver, "a", 1);
	buffers[1] = fake_readable(driver, "", 0);
	buffers[2] = fake_readable(driver, "bcd", 3);
	assert_true(fake_driver_add(driver, buffers, ARRAY_SIZE(buffers)) >= 0);
	submit(&f->guest, TRANSMIT);
	assert_int_equal(await_used(&f->guest, TRANSMIT, &head), 0);
	assert_printed(f, "abcd", 4);
}

/* Standard output is stuck: the queue waits, and a reset ends that. */
static void fill_output(struct fixture *f)
{
	struct fake_driver *driver = &f->guest.queues[TRANSMIT];
	struct fake_buffer buffer = fake_readable(driver, NULL, TERMINAL_RING + 1000);
	struct pollfd room = {.fd = f->terminal.room_fd, .events = POLLIN};

	assert_true(fake_driver_add(driver, &buffer, 1) >= 0);
	submit(&f->guest, TRANSMIT);
	AWAIT(poll(&room, 1, 0) == 0);
}

static void drain_output(struct fixture *f, size_t expected)
{
	char data[4096];

	while (expected) {
		ssize_t n;

		terminal_write_ready(&f->terminal);
		n = read(f->screen, data, sizeof(data));
		assert_true(n > 0 && (size_t)n <= expected);
		expected -= n;
	}
	assert_nothing_printed(f);
}

static void test_reset_while_stuck(void **state)
{
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	fill_output(f);
	common_set(&f->guest, VIRTIO_PCI_COMMON_STATUS, 0);
	assert_int_equal(status_get(&f->guest), 0);
	/* What did not fit is gone. */
	drain_output(f, TERMINAL_RING);
	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	say(f, "again");
	assert_printed(f, "again", 5);
}

static void test_ring_reset_while_stuck(void **state)
{
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1 | RING_RESET);
	fill_output(f);
	queue_set(&f->guest, TRANSMIT, VIRTIO_PCI_COMMON_Q_RESET, 1);
	assert_int_equal(queue_get(&f->guest, TRANSMIT, VIRTIO_PCI_COMMON_Q_ENABLE), 0);
	drain_output(f, TERMINAL_RING);
	queue_lay_out(&f->guest, TRANSMIT, 16, FEATURE_VERSION_1);
	queue_place(&f->guest, TRANSMIT);
	queue_set(&f->guest, TRANSMIT, VIRTIO_PCI_COMMON_Q_ENABLE, 1);
	say(f, "again");
	assert_printed(f, "again", 5);
}

/* Nothing is lost when it merely takes a while. */
static void test_output_waits(void **state)
{
	struct fixture *f = *state;
	u16 head;

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	fill_output(f);
	for (size_t n = 0; n < TERMINAL_RING + 1000;) {
		char data[4096];
		struct pollfd screen = {.fd = f->screen, .events = POLLIN};

		terminal_write_ready(&f->terminal);
		if (poll(&screen, 1, 1))
			n += read(f->screen, data, sizeof(data));
	}
	assert_int_equal(await_used(&f->guest, TRANSMIT, &head), 0);
	assert_nothing_printed(f);
}

/* The emergency write */

static void test_emergency_untouched(void **state)
{
	struct fixture *f = *state;

	fake_guest_write(&f->guest, 0, EMERG_WR, 4, 'O');
	fake_guest_write(&f->guest, 0, EMERG_WR, 1, 'h');
	fake_guest_write(&f->guest, 0, EMERG_WR, 4, 0xffffff00 | '!');
	assert_printed(f, "Oh!", 3);
	assert_int_equal(fake_guest_read(&f->guest, 0, EMERG_WR, 4), 0);
	assert_int_equal(status_get(&f->guest), 0);
}

static void test_emergency_broken(void **state)
{
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	fake_guest_write(&f->guest, 0, COLS, 2, 80);
	assert_non_null(strstr(fake_guest_said(&f->guest), "console: VT-11: "));
	assert_true(status_get(&f->guest) & VIRTIO_CONFIG_S_NEEDS_RESET);
	fake_guest_write(&f->guest, 0, EMERG_WR, 4, '!');
	assert_printed(f, "!", 1);
}

/* It waits for a stuck standard output, but not past the end of the machine. */
static void test_emergency_at_the_end(void **state)
{
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	fill_output(f);
	machine_stop(&f->guest.machine, EXIT_POWERED_OFF, NULL);
	fake_guest_write(&f->guest, 0, EMERG_WR, 4, '!');
	common_set(&f->guest, VIRTIO_PCI_COMMON_STATUS, 0);
	drain_output(f, TERMINAL_RING);
}

/* Input */

static void test_input(void **state)
{
	struct fixture *f = *state;

	terminal_give_input(&f->terminal, INPUT_VIRTIO);
	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	type(f, "early");
	add_room(f, 64);
	submit(&f->guest, RECEIVE);
	assert_received(f, "early");

	add_room(f, 64);
	submit(&f->guest, RECEIVE);
	type(f, "late");
	assert_received(f, "late");
}

static void test_input_in_pieces(void **state)
{
	struct fixture *f = *state;

	terminal_give_input(&f->terminal, INPUT_VIRTIO);
	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	type(f, "abcdefg");
	add_room(f, 1);
	add_room(f, 3);
	submit(&f->guest, RECEIVE);
	assert_received(f, "a");
	assert_received(f, "bcd");
	add_room(f, 64);
	submit(&f->guest, RECEIVE);
	assert_received(f, "efg");
}

/* VQ-10 */

static void type_it(void *opaque)
{
	struct fixture *f = opaque;

	terminal_give_input(&f->terminal, INPUT_VIRTIO);
	type(f, "typed it");
}

static bool went_in(void *opaque, const u8 *written, u32 used)
{
	(void)opaque;
	return used == 8 && !memcmp(written, "typed it", 8);
}

static void test_input_however_cut(void **state)
{
	struct fixture *f = *state;
	const struct framing framing = {
		.queue = RECEIVE,
		.writable_len = 9, /* one more than comes */
		.prepare = type_it,
		.check = went_in,
		.opaque = f,
	};

	assert_int_equal(frame_every_way(&f->guest, &framing), 219 * 5 - 1);
}

static void test_input_of_the_serial_port(void **state)
{
	struct fixture *f = *state;
	char data[8];

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	add_room(f, 64);
	submit(&f->guest, RECEIVE);
	type(f, "ttyS0");
	common_set(&f->guest, VIRTIO_PCI_COMMON_STATUS, 0);
	assert_int_equal(input_owner(f), INPUT_SERIAL);
	assert_int_equal(f->guest.queues[RECEIVE].used->idx, 0);
	assert_int_equal(terminal_take(&f->terminal, INPUT_SERIAL, data, sizeof(data)), 5);
}

/* Chosen by the user: it stays so, whatever the driver does. */
static void test_input_given_stays(void **state)
{
	struct fixture *f = *state;

	terminal_give_input(&f->terminal, INPUT_VIRTIO);
	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	bring_up(&f->guest, STAGE_RESET, 0);
	assert_int_equal(input_owner(f), INPUT_VIRTIO);
}

static void test_input_claimed(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < 2; i++) {
		bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
		say(f, "no buffers yet");
		assert_int_equal(input_owner(f), INPUT_SERIAL);

		type(f, "for whom?");
		add_room(f, 64);
		submit(&f->guest, RECEIVE);
		assert_received(f, "for whom?");
		assert_int_equal(input_owner(f), INPUT_VIRTIO);

		common_set(&f->guest, VIRTIO_PCI_COMMON_STATUS, 0);
		assert_int_equal(input_owner(f), INPUT_SERIAL);
	}
}

/* VQ-3: virtio: Driver Requirements: Device Operation. */
static void test_wrong_direction(void **state)
{
	struct fixture *f = *state;

	for (unsigned queue = 0; queue < 2; queue++) {
		struct fake_driver *driver = &f->guest.queues[queue];
		struct fake_buffer buffer;

		terminal_give_input(&f->terminal, INPUT_VIRTIO);
		bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
		type(f, "x");
		buffer = queue == RECEIVE ? fake_readable(driver, "no", 2)
					  : fake_writable(driver, 2);
		assert_true(fake_driver_add(driver, &buffer, 1) >= 0);
		fake_driver_publish(driver);
		notify(&f->guest, queue);
		AWAIT(status_get(&f->guest) & VIRTIO_CONFIG_S_NEEDS_RESET);
		common_set(&f->guest, VIRTIO_PCI_COMMON_STATUS, 0);
		assert_non_null(strstr(fake_guest_said(&f->guest), "VQ-3: "));
	}
	/* What was typed meanwhile is still there. */
	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	add_room(f, 64);
	submit(&f->guest, RECEIVE);
	assert_received(f, "xx");
}

/* The terminal's size */

static void test_size(void **state)
{
	struct fixture *f = *state;
	struct winsize size = {.ws_col = 132, .ws_row = 50};
	u8 generation;

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1 | SIZE);
	assert_true(offered_features(&f->guest) & SIZE);
	assert_int_equal(fake_guest_read(&f->guest, 0, COLS, 2), 80);
	assert_int_equal(fake_guest_read(&f->guest, 0, ROWS, 2), 25);
	generation = common_get(&f->guest, VIRTIO_PCI_COMMON_CFGGENERATION);
	assert_int_equal(fake_guest_read(&f->guest, 0, REGISTERS_ISR, 1), 0);

	assert_int_equal(ioctl(f->keyboard, TIOCSWINSZ, &size), 0);
	console_resized(&f->console);
	assert_int_equal(fake_guest_read(&f->guest, 0, REGISTERS_ISR, 1), 2);
	assert_int_equal(fake_guest_read(&f->guest, 0, COLS, 2), 132);
	assert_int_equal(fake_guest_read(&f->guest, 0, ROWS, 2), 50);
	assert_int_not_equal(common_get(&f->guest, VIRTIO_PCI_COMMON_CFGGENERATION), generation);
}

/* A pipe has no size, and does not get one. */
static void test_no_size(void **state)
{
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	console_resized(&f->console);
	assert_int_equal(fake_guest_read(&f->guest, 0, REGISTERS_ISR, 1), 0);
}

#define TEST(name)	  cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_TAKING(name) cmocka_unit_test_setup_teardown(name, setup_taking, teardown)
#define TEST_PTY(name)	  cmocka_unit_test_setup_teardown(name, setup_pty, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_identity),
		TEST(test_output),
		TEST(test_output_however_cut),
		TEST(test_output_with_empty_buffers),
		TEST(test_reset_while_stuck),
		TEST(test_ring_reset_while_stuck),
		TEST(test_output_waits),
		TEST(test_emergency_untouched),
		TEST(test_emergency_broken),
		TEST(test_emergency_at_the_end),
		TEST(test_input),
		TEST(test_input_in_pieces),
		TEST(test_input_however_cut),
		TEST(test_input_of_the_serial_port),
		TEST(test_input_given_stays),
		TEST_TAKING(test_input_claimed),
		TEST(test_wrong_direction),
		TEST_PTY(test_size),
		TEST(test_no_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
