/* filter.c - trace: leaves its name in the attribute fx.trail and in a header, or answers by itself.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#include "fixtures.h"

#include <stdlib.h>

static sv_status leave_trail(sv_exchange *x, sv_str step)
{
    sv_str before;
    sv_status status = host->attribute(x, SV_LIT("fx.trail"), &before);
    if (status != SV_OK && status != SV_NONE) return status;
    text trail = {NULL, 0, 0, false};
    add_str(&trail, before);
    if (status == SV_OK) add(&trail, SV_LIT(","));
    add_str(&trail, step);
    status = trail.failed ? SV_E_NOMEM : host->set_attribute(x, SV_LIT("fx.trail"), trail.ptr, trail.len);
    free(trail.ptr); /* all that is passed in was copied */
    return status == SV_OK ? host->set_header(x, SV_HEADER_ADD, SV_LIT("X-Trail"), step.ptr, step.len) : status;
}

sv_status trace_request(void *filter, sv_exchange *x, void **state)
{
    (void)state; /* there is none, so there is no on_end to free it */
    const instance *self = filter;
    const sv_request *request = host->request(x);
    if (request == NULL) return SV_E_STATE;
    const sv_str name = self->config->name;
    text step = {NULL, 0, 0, false};
    add_str(&step, name);
    add(&step, SV_LIT(":"));
    add_str(&step, str(dispatcher(request->dispatch)));
    sv_status status = step.failed ? SV_E_NOMEM : leave_trail(x, (sv_str){step.ptr, step.len});
    free(step.ptr);
    if (status != SV_OK) return status;
    if (!self->blocks) return SV_NEXT;
    /* With SV_OK the rest of the chain is not called. */
    status = host->set_status(x, 299);
    if (status == SV_OK) status = host->write(x, SV_LIT("blocked by "), NULL);
    return status == SV_OK ? host->write(x, name.ptr, name.len, NULL) : status;
}
