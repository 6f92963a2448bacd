/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * GDB's remote protocol, as far as it is about bytes: packets with their checksums and escapes,
 * acknowledgements, numbers in hexadecimal. What is in a packet is session.c's.
 *
 * ("Overview" and "Packet Acknowledgment" in the appendix "GDB Remote Serial Protocol" of the GDB
 * manual.)
 *
 * Tour 8.70: Packets
 */
#ifndef GDB_PROTOCOL_H
#define GDB_PROTOCOL_H

#include "host/types.h"

/* The longest packet's payload that we take, or send: PacketSize in our answer to qSupported. */
#define GDB_PAYLOAD_MAX 0x4000

/* All bytes escaped, and the frame around them. */
#define GDB_FRAME_MAX (2 * GDB_PAYLOAD_MAX + 4)

enum gdb_event {
	GDB_NOTHING,	/* more bytes are needed */
	GDB_PACKET,	/* there is one in the receiver */
	GDB_BAD_PACKET, /* there was one: damaged, or too long */
	GDB_INTERRUPT,	/* ^C, between packets */
	GDB_ACK,
	GDB_NAK, /* send it again */
};

struct gdb_receiver {
	enum { GDB_BETWEEN, GDB_INSIDE, GDB_ESCAPED, GDB_SUM_HIGH, GDB_SUM_LOW } state;
	bool too_long;
	u8 sum, claimed;
	size_t length;
	char payload[GDB_PAYLOAD_MAX + 1]; /* unescaped, and a 0 behind it */
};

/* One byte more; all zero is a receiver to begin with. */
enum gdb_event gdb_receive(struct gdb_receiver *receiver, u8 byte);

/* Is this a first byte that a debugger may have? Between packets others are passed over. */
bool gdb_may_begin(u8 byte);

/* A payload in the making. What does not fit is left out, and `full` says so. */
struct gdb_reply {
	size_t length;
	bool full;
	char payload[GDB_PAYLOAD_MAX];
};

static inline void gdb_reply_begin(struct gdb_reply *reply)
{
	reply->length = 0;
	reply->full = false;
}

void gdb_put(struct gdb_reply *reply, const char *format, ...) PRINTF(2, 3);
void gdb_put_hex(struct gdb_reply *reply, const void *data, size_t length); /* byte by byte */
/* As it is: the frame will escape it. */
void gdb_put_binary(struct gdb_reply *reply, const void *data, size_t length);

/* Its frame, in `frame`; the length of that. */
size_t gdb_frame(const struct gdb_reply *reply, char frame[GDB_FRAME_MAX]);

/* What is left to read of a payload. */
struct gdb_text {
	const char *at, *end;
};

/* Does it begin with that? Then that is skipped. */
bool gdb_skip(struct gdb_text *text, const char *word);
/* A number without sign or 0x, of at least one digit and at most 64 bits. */
bool gdb_take_number(struct gdb_text *text, u64 *value);
/* Two of them, with a comma between. */
bool gdb_take_range(struct gdb_text *text, u64 *address, u64 *length);
/* So many bytes, of two digits each. */
bool gdb_take_hex(struct gdb_text *text, void *data, size_t length);

#endif
