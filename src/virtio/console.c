/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio console: what the guest says on it goes to standard output, what
 * the user types goes to the guest, and a guest that is in too much trouble to
 * fill a ring can still shout one character at a time (DEV-1).
 *
 * The descriptors themselves belong to the terminal (host/terminal.h), which has
 * another customer in the serial port. One port only, so there are two queues
 * and no control messages.
 *
 * Only what is in a used chain is promised to get out: what was queued, but not used, when the
 * guest powers off may be lost.
 *
 * Tour 4.230
 */
#include "virtio/console.h"

#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <poll.h>
#include <string.h>

#define CONSOLE_CLASS                                                                              \
	0x078000 /* communication controller, other: not a serial port, which would be 07.00 */

enum { QUEUE_RECEIVE, QUEUE_TRANSMIT, QUEUES }; /* virtio: Console Device: Virtqueues */

static struct console *console_of(struct virtio_device *device)
{
	return container_of(device, struct console, virtio);
}

static bool input_waits(const struct console *console)
{
	struct pollfd input = {.fd = console->terminal->input_fd, .events = POLLIN};

	return poll(&input, 1, 0) > 0;
}

/* A driver with receive buffers is one that can do something with what the user types. */
static void claim_input(struct console *console)
{
	if (!console->takes_input || console->claimed)
		return;
	console->claimed = true;
	terminal_give_input(console->terminal, INPUT_VIRTIO);
}

static u32 receive_into(struct console *console, const struct chain *chain)
{
	u32 received = 0;

	for (unsigned i = 0; i < chain->writable; i++) {
		const struct iovec *buffer = &chain->iov[chain->readable + i];
		size_t taken = terminal_take(console->terminal, INPUT_VIRTIO, buffer->iov_base,
					     buffer->iov_len);

		received += taken;
		if (taken < buffer->iov_len)
			break;
	}
	return received;
}

/*
 * No buffer is taken before there is something to put into it, so none need be kept for later.
 *
 * Tour 4.231
 */
static unsigned receive(struct console *console)
{
	struct virtio_device *device = &console->virtio;
	struct queue *queue = virtio_queue(device, QUEUE_RECEIVE);
	struct chain chain;

	for (;;) {
		int taken;

		if (!queue_pending(queue))
			return WAIT_KICK;
		claim_input(console);
		if (!input_waits(console))
			return WAIT_SOURCE;
		taken = virtio_pop(device, QUEUE_RECEIVE, &chain);
		if (taken <= 0)
			return taken ? WAIT_BROKEN : WAIT_KICK;
		queue_push(queue, &chain, receive_into(console, &chain));
	}
}

/*
 * When the queue is stopped while standard output is stuck, what is left of the chain
 * is lost: nobody will ask for it again.
 */
static void transmit_chain(struct console *console, const struct chain *chain)
{
	const int stop_fd = virtio_stop_fd(&console->virtio, QUEUE_TRANSMIT);

	for (unsigned i = 0; i < chain->readable; i++) {
		const struct iovec *buffer = &chain->iov[i];

		if (terminal_put(console->terminal, buffer->iov_base, buffer->iov_len, stop_fd) <
		    buffer->iov_len)
			return;
	}
}

/*
 * The shape of every queue that goes outwards: take a chain, do what it says, give it back
 * with nothing written; and when there are none left, say what to wait for.
 *
 * Tour 4.232
 */
static unsigned transmit(struct console *console)
{
	struct virtio_device *device = &console->virtio;
	struct chain chain;
	int taken;

	while ((taken = virtio_pop(device, QUEUE_TRANSMIT, &chain)) > 0) {
		transmit_chain(console, &chain);
		queue_push(virtio_queue(device, QUEUE_TRANSMIT), &chain, 0);
	}
	return taken ? WAIT_BROKEN : WAIT_KICK;
}

static unsigned console_serve(struct virtio_device *device, unsigned queue)
{
	struct console *console = console_of(device);

	return queue == QUEUE_RECEIVE ? receive(console) : transmit(console);
}

static int console_source(struct virtio_device *device, unsigned queue)
{
	return queue == QUEUE_RECEIVE ? console_of(device)->terminal->input_fd : -1;
}

static u64 console_config_read(struct virtio_device *device, unsigned offset, unsigned len)
{
	const struct console *console = console_of(device);
	/* One port, and what was shouted is gone. */
	const struct virtio_console_config config = {
		.cols = console->columns,
		.rows = console->rows,
	};
	u64 value = 0;

	memcpy(&value, (const u8 *)&config + offset, len);
	return value;
}

/*
 * The emergency write works on a device that nobody has touched, or that is broken. It
 * waits where standard output is stuck, like all else that the guest says, but never
 * past the end of the machine.
 */
static bool console_config_write(struct virtio_device *device, unsigned offset, unsigned len,
				 u64 value)
{
	const u8 character = value;

	(void)len; /* only the low byte counts */
	if (offset != offsetof(struct virtio_console_config, emerg_wr))
		return false;
	terminal_put(console_of(device)->terminal, &character, 1, device->machine->stop_fd);
	return true;
}

static void console_reset(struct virtio_device *device)
{
	struct console *console = console_of(device);

	if (!console->claimed)
		return;
	console->claimed = false;
	terminal_give_input(console->terminal, INPUT_SERIAL);
}

static const struct virtio_ops console_ops = {
	.name = "console",
	.id = VIRTIO_ID_CONSOLE,
	.class_code = CONSOLE_CLASS,
	.features = 1ull << VIRTIO_CONSOLE_F_EMERG_WRITE,
	.config_len = sizeof(struct virtio_console_config),
	.serve = console_serve,
	.source = console_source,
	.config_read = console_config_read,
	.config_write = console_config_write,
	.reset = console_reset,
};

int console_init(struct console *console, struct pci_bus *pci, unsigned slot,
		 struct machine *machine, const struct memory *memory, struct terminal *terminal,
		 bool takes_input, struct problem *problem)
{
	static const enum queue_direction directions[QUEUES] = {QUEUE_IN, QUEUE_OUT};

	memset(console, 0, sizeof(*console));
	console->virtio.ops = &console_ops;
	console->terminal = terminal;
	console->takes_input = takes_input;
	/* A pipe has no columns; then the feature is not offered, and the fields mean nothing. */
	if (terminal_size(terminal, &console->columns, &console->rows))
		console->virtio.offered = 1ull << VIRTIO_CONSOLE_F_SIZE;
	return virtio_plug(&console->virtio, pci, slot, machine, memory, directions, QUEUES,
			   problem);
}

void console_resized(struct console *console)
{
	u16 columns, rows;

	if (!(console->virtio.offered >> VIRTIO_CONSOLE_F_SIZE & 1))
		return;
	if (!terminal_size(console->terminal, &columns, &rows))
		return;
	virtio_config_begin(&console->virtio);
	console->columns = columns;
	console->rows = rows;
	virtio_config_changed(&console->virtio);
}
