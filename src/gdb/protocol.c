/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packets of GDB's remote protocol: see protocol.h. Whoever is at the other end may send anything.
 *
 * Tour 8.80
 */
#include "gdb/protocol.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define INTERRUPT     0x03
#define ESCAPE	      '}'
#define ESCAPE_TOGGLE 0x20

static const char digits[] = "0123456789abcdef";

/* -1: it is none. */
static int digit_value(u8 digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	if (digit >= 'A' && digit <= 'F')
		return digit - 'A' + 10;
	return -1;
}

static void begin(struct gdb_receiver *receiver)
{
	receiver->state = GDB_INSIDE;
	receiver->too_long = false;
	receiver->sum = 0;
	receiver->length = 0;
}

static void append(struct gdb_receiver *receiver, u8 byte)
{
	if (receiver->length == GDB_PAYLOAD_MAX)
		receiver->too_long = true;
	else
		receiver->payload[receiver->length++] = (char)byte;
}

static enum gdb_event between(struct gdb_receiver *receiver, u8 byte)
{
	switch (byte) {
	case '$':
		begin(receiver);
		return GDB_NOTHING;
	case '+':
		return GDB_ACK;
	case '-':
		return GDB_NAK;
	case INTERRUPT:
		return GDB_INTERRUPT;
	default:
		/* Passed over, as GDB's own stubs do: it may be the rest of a damaged packet. */
		return GDB_NOTHING;
	}
}

bool gdb_may_begin(u8 byte)
{
	return byte == '$' || byte == '+' || byte == '-' || byte == INTERRUPT;
}

static void inside(struct gdb_receiver *receiver, u8 byte)
{
	/* Neither can be in a payload: the first says that the end of the last one was lost. */
	if (byte == '$') {
		begin(receiver);
		return;
	}
	if (byte == '#') {
		receiver->state = GDB_SUM_HIGH;
		return;
	}
	receiver->sum += byte;
	if (byte == ESCAPE)
		receiver->state = GDB_ESCAPED;
	else
		append(receiver, byte);
}

/*
 * One byte after the other, because a packet may come in any number of pieces. Everything that
 * this has to remember between two of them is in the receiver's state.
 *
 * Tour 8.81
 */
enum gdb_event gdb_receive(struct gdb_receiver *receiver, u8 byte)
{
	int value;

	switch (receiver->state) {
	case GDB_BETWEEN:
		return between(receiver, byte);
	case GDB_INSIDE:
		inside(receiver, byte);
		return GDB_NOTHING;
	case GDB_ESCAPED:
		receiver->sum += byte;
		append(receiver, byte ^ ESCAPE_TOGGLE);
		receiver->state = GDB_INSIDE;
		return GDB_NOTHING;
	default:
		break;
	}
	value = digit_value(byte);
	if (value < 0) {
		receiver->state = GDB_BETWEEN;
		return GDB_BAD_PACKET;
	}
	if (receiver->state == GDB_SUM_HIGH) {
		receiver->claimed = value << 4;
		receiver->state = GDB_SUM_LOW;
		return GDB_NOTHING;
	}
	receiver->state = GDB_BETWEEN;
	if (receiver->too_long || (receiver->claimed | value) != receiver->sum)
		return GDB_BAD_PACKET;
	receiver->payload[receiver->length] = '\0';
	return GDB_PACKET;
}

void gdb_put_binary(struct gdb_reply *reply, const void *data, size_t length)
{
	if (length > sizeof(reply->payload) - reply->length) {
		reply->full = true;
		return;
	}
	memcpy(reply->payload + reply->length, data, length);
	reply->length += length;
}

void gdb_put(struct gdb_reply *reply, const char *format, ...)
{
	char text[256];
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (length < 0 || (size_t)length >= sizeof(text))
		reply->full = true;
	else
		gdb_put_binary(reply, text, length);
}

void gdb_put_hex(struct gdb_reply *reply, const void *data, size_t length)
{
	const u8 *bytes = data;

	for (size_t i = 0; i < length; i++) {
		const char pair[] = {digits[bytes[i] >> 4], digits[bytes[i] & 15]};

		gdb_put_binary(reply, pair, sizeof(pair));
	}
}

/* The last one would begin a run-length encoding. */
static bool needs_escape(char byte)
{
	return byte == '$' || byte == '#' || byte == ESCAPE || byte == '*';
}

size_t gdb_frame(const struct gdb_reply *reply, char frame[GDB_FRAME_MAX])
{
	size_t length = 0;
	u8 sum = 0;

	frame[length++] = '$';
	for (size_t i = 0; i < reply->length; i++) {
		if (needs_escape(reply->payload[i])) {
			frame[length++] = ESCAPE;
			frame[length++] = (char)(reply->payload[i] ^ ESCAPE_TOGGLE);
		} else {
			frame[length++] = reply->payload[i];
		}
	}
	for (size_t i = 1; i < length; i++)
		sum += (u8)frame[i];
	frame[length++] = '#';
	frame[length++] = digits[sum >> 4];
	frame[length++] = digits[sum & 15];
	return length;
}

bool gdb_skip(struct gdb_text *text, const char *word)
{
	const size_t length = strlen(word);

	if ((size_t)(text->end - text->at) < length || memcmp(text->at, word, length))
		return false;
	text->at += length;
	return true;
}

bool gdb_take_number(struct gdb_text *text, u64 *value)
{
	const char *begin = text->at;
	int digit;

	*value = 0;
	while (text->at < text->end && (digit = digit_value((u8)*text->at)) >= 0) {
		if (*value >> 60)
			return false;
		*value = *value << 4 | (u64)digit;
		text->at++;
	}
	return text->at > begin;
}

bool gdb_take_hex(struct gdb_text *text, void *data, size_t length)
{
	u8 *bytes = data;

	if ((size_t)(text->end - text->at) / 2 < length)
		return false;
	for (size_t i = 0; i < length; i++, text->at += 2) {
		const int high = digit_value((u8)text->at[0]), low = digit_value((u8)text->at[1]);

		if (high < 0 || low < 0)
			return false;
		bytes[i] = high << 4 | low;
	}
	return true;
}

bool gdb_take_range(struct gdb_text *text, u64 *address, u64 *length)
{
	return gdb_take_number(text, address) && gdb_skip(text, ",") &&
	       gdb_take_number(text, length);
}
