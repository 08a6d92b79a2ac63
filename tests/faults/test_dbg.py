from .. import workflows
import time
def test_x(own_server, workers):
    "x"
    t=time.time()
    w=workers.start()
    r=workflows.two_steps.start("a")
    assert workflows.two_steps.result(r, timeout=10)=="a"
    from canx_flow.models import WorkflowRun
    print(WorkflowRun.objects.count())
    own_server.freeze(); own_server.thaw()
    own_server.shut_down(); own_server.start(); own_server.crash(); own_server.start()
    w.wait_log("away")
    print(w.log())
