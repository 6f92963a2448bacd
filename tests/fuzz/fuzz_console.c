/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio console under a mad driver (virtio_world.h), while somebody types
 * and resizes the window. At the end it prints what it is given.
 */
#include "virtio_world.h"

#include "virtio/console.h"

#include <fcntl.h>
#include <linux/virtio_console.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct fuzzed {
	struct world world;
	struct terminal terminal;
	struct console console;
	int keyboard; /* the other end of standard input */
};

static struct fuzzed *fuzzed_of(struct world *world)
{
	return container_of(world, struct fuzzed, world);
}

static void request(struct world *world, struct input *input, unsigned queue,
		    struct request *request)
{
	(void)world;
	take_buffers(request, input, !queue, WORLD_BUFFERS);
}

static void type(struct fuzzed *fuzzed, struct input *input)
{
	u8 text[16];
	size_t len = 1 + take(input, 1) % sizeof(text);

	memset(text, 'x', sizeof(text));
	MUST(write(fuzzed->keyboard, text, len) == (ssize_t)len);
	/* What does not fit into the ring stays in the pipe; nobody may wait for that to change. */
	if (terminal_input_events(&fuzzed->terminal))
		terminal_read_ready(&fuzzed->terminal);
	else
		MUST(read(STDIN_FILENO, text, len) > 0);
}

static void step(struct world *world, struct input *input, u8 what)
{
	struct fuzzed *fuzzed = fuzzed_of(world);

	switch (what % 3) {
	case 0:
		type(fuzzed, input);
		break;
	case 1:
		virtio_config_begin(world->virtio);
		fuzzed->console.columns = take(input, 1);
		virtio_config_changed(world->virtio);
		break;
	case 2: /* shouting */
		bar_write(world, 0x2000 + offsetof(struct virtio_console_config, emerg_wr), 4,
			  take(input, 1));
		break;
	}
}

/*
 * The launcher's main thread, as far as output is concerned. A thread of its own: a vCPU, which is
 * what the fuzzer is, may wait for it.
 */
static void *write_output(void *opaque)
{
	struct fuzzed *fuzzed = opaque;
	struct pollfd wake = {.fd = fuzzed->world.machine.wake_fd, .events = POLLIN};
	eventfd_t count;

	for (;;) {
		while (poll(&wake, 1, -1) < 0)
			;
		eventfd_read(wake.fd, &count);
		while (terminal_output_events(&fuzzed->terminal))
			terminal_write_ready(&fuzzed->terminal);
	}
	return NULL;
}

static void at_rest(struct world *world)
{
	u8 text[64];

	while (terminal_take(&fuzzed_of(world)->terminal, INPUT_SERIAL, text, sizeof(text)))
		;
}

static void must_work(struct world *world)
{
	const struct fake_buffer text = {DATA, 5, false};

	MUST(world_ask(world, 1, &text, 1) == 0);
}

static const struct fuzzed_ops ops = {
	.queues = 2,
	.lines = 2, /* the violation, and that the guest gave up */
	.request = request,
	.step = step,
	.at_rest = at_rest,
	.must_work = must_work,
};

static struct fuzzed *build(void)
{
	struct fuzzed *fuzzed = calloc(1, sizeof(*fuzzed));
	struct problem why;
	pthread_t writer;
	int input[2], output = open("/dev/null", O_WRONLY | O_CLOEXEC);

	MUST(fuzzed && output >= 0 && !pipe(input));
	dup2(input[0], STDIN_FILENO);
	dup2(output, STDOUT_FILENO);
	fuzzed->keyboard = input[1];
	world_init(&fuzzed->world, &ops);
	MUST(!terminal_init(&fuzzed->terminal, &fuzzed->world.machine));
	MUST(!console_init(&fuzzed->console, &fuzzed->world.pci, WORLD_SLOT, &fuzzed->world.machine,
			   fuzzed->world.memory, &fuzzed->terminal, true, &why));
	fuzzed->world.virtio = &fuzzed->console.virtio;
	MUST(!pthread_create(&writer, NULL, write_output, fuzzed));
	return fuzzed;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct fuzzed *fuzzed;

	if (!fuzzed)
		fuzzed = build();
	world_run(&fuzzed->world, data, size);
	return 0;
}
