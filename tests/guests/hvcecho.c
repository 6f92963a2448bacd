/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Echoes what comes in at the virtio console, until a 'q'; the same that echo does
 * for the serial port, with a buffer of one byte so that order shows.
 */
#include "lib/guest.h"
#include "lib/virtio.h"

#include <linux/virtio_config.h>

#define QUEUE_SIZE 16

static const char hexadecimal[] = "0123456789abcdef";

static bool echo(struct virtio *console, u8 c)
{
	char text[] = {'<', hexadecimal[c >> 4], hexadecimal[c & 15], '>', '\0'};

	if (c >= ' ' && c < 0x7f) {
		text[0] = (char)c;
		text[1] = '\0';
	}
	return console_send(console, text);
}

void guest_main(const struct boot *boot)
{
	static struct virtio console;
	struct ring *rx = &console.rings[CONSOLE_RX];
	static u8 input;

	(void)boot;
	virtio_find(&console, SLOT_VIRTIO_CONSOLE);
	virtio_start(&console, FEATURE(VIRTIO_F_VERSION_1), QUEUE_SIZE);
	console_send(&console, "hvcecho: ready\n");
	do {
		ring_describe(rx, 0, &input, 1, VRING_DESC_F_WRITE, 0);
		ring_offer(rx, 0);
		virtio_notify(&console, CONSOLE_RX);
		/* A user may think for as long as he likes: no patience here. */
		while (!ring_has_used(rx))
			pause();
		check_equal(rx->used->ring[rx->used_seen++ % rx->size].len, 1, "one byte was used");
		if (!echo(&console, input))
			give_up("the console takes its echo");
	} while (input != 'q');
	console_send(&console, "\nhvcecho: done\n");
}
